from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.voc.conftest import TAXONOMY_CSV, voc_row
from voc.errors import DataError
from voc.labels.taxonomy import parse_taxonomy
from voc.records.acceptance import check_quarantine, read_general_rows, read_voc_rows
from voc.records.checks import RowChecks
from voc.records.records import parse_general_record, parse_voc_record
from voc.records.refusals import RowError

TAXONOMY = parse_taxonomy(TAXONOMY_CSV, "x")
CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def lines(*values: object) -> bytes:
    return b"".join((v if isinstance(v, bytes) else json.dumps(v).encode()) + b"\n" for v in values)


def test_a_good_row_is_accepted_and_written_back_as_it_came() -> None:
    row = {**voc_row("a"), "lang": "de", "created_at": "2026-11-22"}
    accepted = read_voc_rows(lines(row), TAXONOMY)
    assert accepted.rejections == ()
    assert accepted.rows[0].to_json() == row
    assert list(accepted.rows[0].segments[0].to_json()) == ["content", "L1", "L2", "L3", "L4", "emotion"]


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        (b'{"id": "a", "comment": ', "malformed_json", "not JSON"),
        (b"\xff\xfe", "encoding", "not UTF-8"),
        ([1], "schema", "list"),
        ({"comment": "x", "segments": []}, "schema", "id is missing"),
        ({"id": "", "comment": "x", "segments": []}, "schema", "id is empty"),
        ({"id": "a", "comment": "  ", "segments": []}, "empty_comment", "'a'"),
        ({"id": "a", "comment": "x"}, "schema", "segments is NoneType"),
        ({"id": "a", "comment": "x", "segments": ["y"]}, "schema", "a segment is 'y'"),
        ({"id": "a", "comment": "x\ud800", "segments": []}, "schema", "comment"),
        (voc_row("a", L2="Batery"), "label_not_in_taxonomy", "the nearest is 'Battery'"),
        (voc_row("a", content="akku"), "segment_not_verbatim", "'akku'"),
        (voc_row("a", content=""), "segment_not_verbatim", "''"),
        ({**voc_row("a"), "lang": 3}, "schema", "lang is 3"),
        ({**voc_row("a"), "lang": "German"}, "language_malformed", "lang is 'German'"),
        (voc_row("a", L4="runtime"), "label_not_in_taxonomy", "forgiving repairs it"),
        (voc_row("a", L1="Service"), "label_not_in_taxonomy", "exists under 'Product > Battery > Use'"),
        (b'{"id": "a", "comment": "x y", "segments": [{"content": "x", "L1": NaN}]}', "not_a_number", "holds NaN"),
        (voc_row("a", L3=None), "not_a_number", "L3 is None"),  # type: ignore[arg-type]
        (voc_row("a", L3="nan"), "not_a_number", "L3 is 'nan'"),
        (voc_row("a", L3=["Use"]), "schema", "L3 is ['Use']"),  # type: ignore[arg-type]
        ({"id": "a", "comment": "x", "segments": [{"content": "x"}]}, "schema", "L1 is missing"),
        ({"id": "a", "comment": "x", "segments": None}, "schema", "segments is NoneType"),
        (voc_row("a", content="The  battery"), "segment_not_verbatim", "if case and spaces did not count"),
        (voc_row("a", "the battery is gr\ufffdat"), "encoding_damage", "U+FFFD at character 17"),
        (voc_row("a", "the battery isn\u00e2\u20ac\u2122t great"), "encoding_damage", "probably '’'"),
        (voc_row("a", "the battery\x00"), "encoding_damage", "U+0000"),
    ],
)
def test_a_bad_row_is_refused_with_reason_line_and_raw_text(row: object, reason: str, detail: str) -> None:
    accepted = read_voc_rows(lines(voc_row("good"), row, voc_row("better")), TAXONOMY)
    assert [record.id for record in accepted.rows] == ["good", "better"]
    (rejection,) = accepted.rejections
    assert (rejection.line, rejection.reason) == (2, reason)
    assert detail in rejection.detail
    assert rejection.raw == lines(row).decode("utf-8", "backslashreplace").rstrip("\n")
    assert accepted.counts == {reason: 1}
    json.dumps(rejection.to_json(), ensure_ascii=False).encode()


def test_a_repeated_id_is_refused_the_second_time() -> None:
    accepted = read_voc_rows(lines(voc_row("a"), voc_row("b"), voc_row("a", "another battery")), TAXONOMY)
    assert [record.id for record in accepted.rows] == ["a", "b"]
    assert [(r.line, r.reason) for r in accepted.rejections] == [(3, "duplicate_id")]


def test_blank_lines_windows_ends_and_a_byte_order_mark_do_no_harm() -> None:
    data = b"\xef\xbb\xbf" + json.dumps(voc_row("a")).encode() + b"\r\n\n  \n" + json.dumps(voc_row("b")).encode()
    accepted = read_voc_rows(data, TAXONOMY)
    assert ([r.id for r in accepted.rows], accepted.rejections) == (["a", "b"], ())


def test_deep_nesting_is_a_refused_row_and_not_a_crash() -> None:
    assert read_voc_rows(b"[" * 200_000 + b"\n", TAXONOMY).counts == {"malformed_json": 1}


@given(st.lists(st.binary(max_size=40), max_size=12))
def test_no_line_is_ever_lost(raw: list[bytes]) -> None:
    data = b"\n".join(raw)
    accepted = read_voc_rows(data, TAXONOMY)
    expected = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(accepted.rows) + len(accepted.rejections) == len(expected)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "schema"),
        ({"messages": "hello"}, "schema"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "schema"),
        ({"messages": [{"role": "user", "content": None}]}, "schema"),
        ({"messages": [{"role": "user", "content": "\udfff"}, *CHAT]}, "schema"),
        ({"messages": CHAT[:1]}, "nothing_to_learn"),
        ({"messages": [CHAT[0], {"role": "assistant", "content": ""}]}, "nothing_to_learn"),
        ({"prompt": "x"}, "schema"),
        ({"prompt": "x", "completion": ""}, "nothing_to_learn"),
        ({"messages": CHAT, "category": ""}, "schema"),
    ],
)
def test_bad_general_rows_are_refused(row: object, reason: str) -> None:
    accepted = read_general_rows(lines(row, {"messages": CHAT}))
    assert accepted.counts == {reason: 1}
    assert len(accepted.rows) == 1


def test_general_rows_of_both_forms_are_written_back_as_they_came() -> None:
    rows = [{"messages": CHAT, "category": "chat"}, {"prompt": "p", "completion": " c", "category": "general"}]
    assert [row.to_json() for row in read_general_rows(lines(*rows)).rows] == rows


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"test\.jsonl is empty"):
        check_quarantine(read_voc_rows(b"\n \n", TAXONOMY), "test.jsonl", 1.0)


def test_too_many_refused_rows_name_the_counts_the_first_one_and_the_limit() -> None:
    accepted = read_voc_rows(lines(voc_row("a"), b"{", voc_row("a"), voc_row("b")), TAXONOMY)
    check_quarantine(accepted, "f", 0.5)
    with pytest.raises(DataError, match=r"2 of 4 rows .*duplicate_id 1, malformed_json 1.*line 2.*at most 25\.00%"):
        check_quarantine(accepted, "f", 0.25)


def test_a_file_without_a_single_good_row_is_refused_at_any_limit() -> None:
    with pytest.raises(DataError, match="1 of 1"):
        check_quarantine(read_voc_rows(b"{", TAXONOMY), "f", 1.0)


def test_a_label_that_a_table_gives_as_nan_is_an_empty_cell() -> None:
    with pytest.raises(RowError, match="L1 is nan: the label was empty when it was exported") as caught:
        parse_voc_record(voc_row("a", L1=float("nan")), TAXONOMY)  # type: ignore[arg-type]
    assert caught.value.reason == "not_a_number"


def two_segments(comment: str, *contents: str) -> dict:
    row = voc_row("a", comment)
    row["segments"] = [{**row["segments"][0], "content": content} for content in contents]
    return row


def test_overlapping_segments_are_noted_or_refused() -> None:
    row, notes = two_segments("the battery is great", "the battery", "battery is great"), Counter[str]()
    parse_voc_record(row, TAXONOMY, notes=notes)
    assert notes == {"segments_overlap": 1}
    with pytest.raises(RowError, match="claim the same words") as caught:
        parse_voc_record(row, TAXONOMY, checks=RowChecks(overlapping_segments="refuse"))
    assert caught.value.reason == "segments_overlap"


def test_forgiving_matching_repairs_a_label_and_counts_it() -> None:
    notes: Counter[str] = Counter()
    row = voc_row("a", L2=" battery", L4="RUNTIME")
    record = parse_voc_record(row, TAXONOMY, checks=RowChecks(label_matching="forgiving"), notes=notes)
    assert record.segments[0].label == ("Product", "Battery", "Use", "Runtime")
    assert notes == {"repaired_labels": 1}


def test_a_row_that_is_refused_further_down_leaves_no_notes() -> None:
    notes: Counter[str] = Counter()
    row = {**voc_row("a", L2=" battery"), "lang": "German"}
    with pytest.raises(RowError):
        parse_voc_record(row, TAXONOMY, checks=RowChecks(label_matching="forgiving"), notes=notes)
    rows = lines(voc_row("a", L2=" battery"), voc_row("a", L2=" battery"))
    assert read_voc_rows(rows, TAXONOMY, checks=RowChecks("forgiving"), notes=notes).counts == {"duplicate_id": 1}
    assert notes == {"repaired_labels": 1}


def test_a_comment_in_a_language_that_is_not_expected_is_refused() -> None:
    checks = RowChecks(languages=frozenset({"en"}))
    assert parse_voc_record({**voc_row("a"), "lang": "en-GB"}, TAXONOMY, checks=checks).extra == {"lang": "en-GB"}
    with pytest.raises(RowError, match=r"the language is de .declared as 'de'.*expected one of en") as caught:
        parse_voc_record({**voc_row("a"), "lang": "de"}, TAXONOMY, checks=checks)
    assert caught.value.reason == "language_not_expected"


def test_damaged_text_in_a_general_row_is_noted_and_kept() -> None:
    notes: Counter[str] = Counter()
    row = {"messages": [{"role": "user", "content": "what is \ufffd?"}, CHAT[1]]}
    assert parse_general_record(row, notes=notes).to_json()["messages"] == row["messages"]
    assert notes == {"encoding_damage": 1}


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=4), lambda inner: st.lists(inner) | inner)
)
def test_whatever_a_field_holds_it_is_read_or_refused(value: object) -> None:
    for field in ("id", "comment", "segments", "lang", "source"):
        try:
            parse_voc_record({**voc_row("a"), field: value}, TAXONOMY)
        except RowError as error:
            assert error.detail
    for field in ("content", "L1", "L4", "emotion"):
        try:
            parse_voc_record(voc_row("a", **{field: value}), TAXONOMY)  # type: ignore[arg-type]
        except RowError as error:
            assert error.detail


def test_a_field_of_endless_nesting_is_a_refused_row_and_not_a_crash() -> None:
    nested: object = "x"
    for _ in range(100_000):
        nested = [nested]
    for row in ({**voc_row("a"), "comment": nested}, {**voc_row("a"), "segments": [nested]}, voc_row("a", L1=nested)):  # type: ignore[arg-type]
        with pytest.raises(RowError, match="expected"):
            parse_voc_record(row, TAXONOMY)
    for general in ({"messages": [nested]}, {"prompt": nested}, {"messages": CHAT, "category": nested}):
        with pytest.raises(RowError):
            parse_general_record(general)
