"""One rule of acceptance: what preflight passes `prepare` takes, and our own files are not judged again."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.unit.voc.conftest import TAXONOMY_CSV, voc_row
from voc.config.data import DataConfig
from voc.errors import DataError, IntegrityError
from voc.labels.taxonomy import parse_taxonomy
from voc.records.acceptance import (
    RowRules,
    check_damage,
    parse_accepted_rows,
    read_general_rows,
    read_voc_rows,
)
from voc.records.refusals import Rejection, RowError

TAXONOMY = parse_taxonomy(TAXONOMY_CSV, "x")
SOURCE = {"name": "customer", "uri": "train.jsonl", "format": "voc"}


def make_data(**changes: object) -> DataConfig:
    return DataConfig.model_validate({"taxonomy": "t.csv", "test": "test.jsonl", "sources": [SOURCE], **changes})


def lines(*values: object) -> bytes:
    return b"".join((v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n" for v in values)


def test_a_row_is_redacted_before_it_is_judged_and_the_counts_add_up() -> None:
    rules = RowRules(make_data(redaction={"kinds": ["email"]}), TAXONOMY)
    row, redacted = voc_row("a", "the battery is great, jane.doe@example.org"), Counter[str]()
    assert rules.accept_voc(row, redacted=redacted).comment == "the battery is great, [email]"
    assert redacted == {"email": 1}
    with pytest.raises(RowError, match="the nearest is 'Battery'"):
        rules.accept_voc(voc_row("a", "the battery: jane.doe@example.org", L2="Batery"), redacted=redacted)
    assert redacted == {"email": 2}


def test_a_general_row_gets_the_category_of_its_source_if_it_states_none() -> None:
    rules = RowRules(make_data(), None)
    row = {"prompt": "p", "completion": "c"}
    assert rules.accept_general(row, "code").category == "code"
    assert rules.accept_general({**row, "category": "own"}, "code").category == "own"
    assert rules.accept_general(row).category == "general"


def test_a_refusal_is_kept_without_personal_data() -> None:
    rules = RowRules(make_data(redaction={"kinds": ["email"]}), TAXONOMY)
    kept = rules.redact_rejection(Rejection(3, "schema", "id is a@b.org", '{"id": "a@b.org"'))
    assert (kept.line, kept.detail, kept.raw) == (3, "id is [email]", '{"id": "[email]"')


def test_languages_are_judged_where_they_can_be_detected_only() -> None:
    data, row = make_data(languages=["en"]), {**voc_row("a"), "lang": "de"}
    with pytest.raises(RowError, match="the language is de"):
        RowRules(data, TAXONOMY).accept_voc(row)
    assert RowRules(data, TAXONOMY, check_languages=False).accept_voc(row).id == "a"


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (
            b'{"id": "a", "comment": "x y", "comment": "z", "segments": []}',
            "duplicate_key",
            "the key 'comment' is there",
        ),
        (b'{"id": "a", "comment": "x", "segments": [{"L1": 1, "L1": 2}]}', "duplicate_key", "the key 'L1'"),
        (b'{"id": "a", "comment": "x", "segments": [], "score": NaN}', "not_a_number", "NaN"),
        (b'{"id": "a", "comment": "x", "segments": [], "score": -Infinity}', "not_a_number", "-Infinity"),
    ],
)
def test_what_json_does_not_say_clearly_is_refused(line: bytes, reason: str, detail: str) -> None:
    accepted = read_voc_rows(line + b"\n", TAXONOMY)
    assert accepted.counts == {reason: 1}
    assert detail in accepted.rejections[0].detail
    assert read_general_rows(line + b"\n").counts == {reason: 1}


def test_a_file_that_is_cut_off_says_so_and_is_not_whole() -> None:
    accepted = read_voc_rows(lines(voc_row("a")) + b'{"id": "b", "comm', TAXONOMY)
    assert accepted.counts == {"truncated_file": 1}
    with pytest.raises(DataError, match=r"f\.jsonl is not whole: the file ends in the middle of a row"):
        check_damage(accepted, "f.jsonl")
    check_damage(read_voc_rows(lines(voc_row("a"), b"{"), TAXONOMY), "f.jsonl")


def test_our_own_rows_are_read_back_as_they_were_written() -> None:
    accepted = read_voc_rows(lines(voc_row("a"), {**voc_row("b"), "lang": "de", "source": "shop"}), TAXONOMY)
    written = lines(*(record.to_json() for record in accepted.rows))
    assert parse_accepted_rows(written, TAXONOMY, "test.jsonl") == accepted.rows


def test_a_repeated_id_in_our_own_rows_is_no_damage() -> None:
    written = lines(voc_row("a"), voc_row("a", "another battery"))
    assert [record.comment for record in parse_accepted_rows(written, TAXONOMY, "x")] == [
        "the battery is great",
        "another battery",
    ]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b'{"id": "a"', "row 2 is not an accepted row: Expecting"),
        (b'{"id": "a"}', "row 2 is not an accepted row: 'segments' is missing"),
        (b"[]", "row 2 is not an accepted row"),
        (
            voc_row("a", L2="Gone"),
            "row 2 is not an accepted row: the label .*'Gone'.* is not in the taxonomy beside it",
        ),
        (b"[" * 200_000, "row 2 is not an accepted row"),
    ],
)
def test_what_is_really_damaged_in_our_own_rows_is_an_integrity_error(line: object, detail: str) -> None:
    with pytest.raises(IntegrityError, match=detail):
        parse_accepted_rows(lines(voc_row("a"), line), TAXONOMY, "data/test.jsonl")
