from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.writers import SERVICE_CATEGORIES, format_data_mixing, parse_data_mixing, write_converse
from tests.unit.corpus.readers.sources import make_source, read_values, to_jsonl
from voc.errors import ConfigError, DataError
from voc.prompts import render_system
from voc.records import GeneralRecord, Segment, VocRecord, parse_general_record
from voc.taxonomy import Leaf, Taxonomy

PATH = ("Product", "Battery", "Use", "Runtime")
TAXONOMY = Taxonomy((Leaf(PATH, "how long it lasts"), Leaf(("Service", "Support", "Use", "Speed"), "how fast")))
CATALOG = "nova-2-lite-v1"
quick = settings(deadline=None, max_examples=60, database=None)


def make_record(comment: str, *contents: str) -> VocRecord:
    return VocRecord("id", comment, tuple(Segment(content, PATH, "joy") for content in contents))


def test_a_comment_becomes_the_rendered_prompt_and_the_answer() -> None:
    (row,) = write_converse([make_record("good battery", "battery")], "taxonomy", TAXONOMY)
    assert row["schemaVersion"] == "bedrock-conversation-2024"
    assert row["system"] == [{"text": render_system("taxonomy", TAXONOMY)}]
    user, assistant = row["messages"]
    assert user == {"role": "user", "content": [{"text": "Comment: good battery"}]}
    assert json.loads(assistant["content"][0]["text"])[0]["content"] == "battery"
    assert list(row) == ["schemaVersion", "system", "messages"]


def test_a_chat_without_a_system_turn_has_no_system_key() -> None:
    chat = GeneralRecord(messages=({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}))
    (row,) = write_converse([chat], "internalized", TAXONOMY)
    assert list(row) == ["schemaVersion", "messages"]


USER, ANSWER, SYSTEM = ({"role": role, "content": "x"} for role in ("user", "assistant", "system"))


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (GeneralRecord(prompt="p", completion="c"), "plain text"),
        (GeneralRecord(messages=(ANSWER,)), "turns are assistant"),
        (GeneralRecord(messages=(USER, USER, ANSWER)), "turns are user, user, assistant"),
        (GeneralRecord(messages=(USER, SYSTEM, ANSWER)), "turns are user, system, assistant"),
        (GeneralRecord(messages=(SYSTEM, SYSTEM, USER, ANSWER)), "turns are system, user"),
        (GeneralRecord(messages=(USER, ANSWER, USER)), "turns are user, assistant, user"),
        (GeneralRecord(messages=({"role": "user", "content": " \n"}, ANSWER)), "blank"),
    ],
)
def test_what_the_format_cannot_say_is_an_error_with_its_number(record: GeneralRecord, problem: str) -> None:
    with pytest.raises(DataError, match=f"record 2 has no Converse form: .*{problem}"):
        list(write_converse([make_record("x"), record], "internalized", TAXONOMY))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() != ""
)
RECORDS = st.lists(st.builds(lambda a, b, c: make_record(a + b + c, b, c), TEXT, TEXT, TEXT), min_size=1, max_size=4)
CHATS = st.lists(
    st.builds(
        lambda system, pairs: GeneralRecord(
            messages=(
                *({"role": "system", "content": text} for text in system),
                *(
                    {"role": role, "content": t}
                    for p in pairs
                    for role, t in zip(("user", "assistant"), p, strict=True)
                ),
            )
        ),
        st.lists(TEXT, max_size=1),
        st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@quick
@given(records=RECORDS, variant=st.sampled_from(["internalized", "taxonomy"]))
def test_comments_written_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, records: list[VocRecord], variant: Any
) -> None:
    path = tmp_path_factory.mktemp("written") / "rows.jsonl"
    path.write_bytes(to_jsonl(write_converse(records, variant, TAXONOMY)))
    rows = read_values(make_source(path, reader="converse"), max_row_bytes=1 << 20)
    assert rows == [{**r.to_json(), "id": f"rows-{n:06d}"} for n, r in enumerate(records, start=1)]


@quick
@given(chats=CHATS)
def test_chats_written_are_read_back(tmp_path_factory: pytest.TempPathFactory, chats: list[GeneralRecord]) -> None:
    path = tmp_path_factory.mktemp("written") / "rows.jsonl"
    path.write_bytes(to_jsonl(write_converse(chats, "internalized", TAXONOMY)))
    rows = read_values(make_source(path, reader="converse", format="general"), max_row_bytes=1 << 20)
    assert [parse_general_record(row) for row in rows] == chats


def test_the_block_has_the_services_keys_and_percents() -> None:
    assert format_data_mixing({"math": 1, "code": 3}, 0.75, CATALOG) == {
        "dataset_catalog": CATALOG,
        "sources": {"customer_data": {"percent": 75}, "nova_data": {"math": 25, "code": 75}},
    }


def test_all_customer_data_needs_no_categories() -> None:
    block = format_data_mixing({}, 1, CATALOG)
    assert block["sources"] == {"customer_data": {"percent": 100}, "nova_data": {}}
    assert parse_data_mixing(block) == (100.0, {})
    del block["sources"]["nova_data"]
    assert parse_data_mixing(block) == (100.0, {})


@quick
@given(
    shares=st.dictionaries(st.sampled_from(SERVICE_CATEGORIES), st.floats(0.001, 1e6), min_size=1),
    ratio=st.floats(0, 1),
)
def test_any_shares_sum_to_100_and_are_read_back(shares: dict[str, float], ratio: float) -> None:
    block = format_data_mixing(shares, ratio, CATALOG)
    percent, percents = parse_data_mixing(json.loads(json.dumps(block)))
    assert math.isclose(percent, ratio * 100, abs_tol=1e-6)
    assert math.isclose(math.fsum(percents.values()), 100, abs_tol=1e-9)
    total = sum(shares.values())
    assert all(math.isclose(percents[name], share / total * 100, abs_tol=2e-6) for name, share in shares.items())


@pytest.mark.parametrize(
    ("shares", "ratio", "catalog", "problem"),
    [
        ({"maths": 1, "poetry": 1}, 0.5, CATALOG, "does not have: maths, poetry"),
        ({"math": -1}, 0.5, CATALOG, "shares.math is -1"),
        ({"math": math.nan}, 0.5, CATALOG, "shares.math is nan"),
        ({"math": True}, 0.5, CATALOG, "shares.math is True"),
        ({"math": 0}, 0.5, CATALOG, "empty or all 0"),
        ({}, 0.5, CATALOG, "empty or all 0"),
        ({"math": 1}, 1.5, CATALOG, "customer_ratio is 1.5"),
        ({"math": 1}, math.inf, CATALOG, "customer_ratio is inf"),
        ({"math": 1}, 0.5, "", "dataset_catalog is empty"),
    ],
)
def test_a_mixture_that_the_service_cannot_have_is_refused(
    shares: dict[str, Any], ratio: float, catalog: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        format_data_mixing(shares, ratio, catalog)


def block_of(percent: Any = 75, **categories: Any) -> dict[str, Any]:
    return {
        "dataset_catalog": CATALOG,
        "sources": {"customer_data": {"percent": percent}, "nova_data": categories},
    }


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (None, "data_mixing is None"),
        ([], "data_mixing is"),
        ({}, r"lacks dataset_catalog.*lacks sources"),
        ({**block_of(math=100), "more": 1}, "unknown keys 'more'"),
        (block_of(math=99.9), r"sum to 99.9, expected 100"),
        (block_of(), "sum to 0"),
        (block_of(math=101, code=-1), r"math is 101.*code is -1"),
        (block_of(math=math.nan), "math is nan"),
        (block_of(math="100"), "math is '100'"),
        (block_of(math=True), "math is True"),
        (block_of(math=None), "math is None"),
        (block_of(maths=100), "does not have: maths"),
        (block_of(-1, math=100), "percent is -1"),
        (block_of(100.5, math=100), "percent is 100.5"),
        (block_of(None, math=100), "percent is None"),
        (block_of(100, math=50), "sum to 50"),
        ({**block_of(math=100), "dataset_catalog": 7}, "dataset_catalog is 7"),
        (
            {**block_of(math=100), "sources": {"customer_data": 75, "nova_data": []}},
            r"customer_data is 75.*nova_data is",
        ),
        ({**block_of(math=100), "sources": {"customer": {}}}, r"unknown keys 'customer'.*lacks customer_data"),
    ],
)
def test_a_block_with_a_mistake_is_refused(block: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_data_mixing(block)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"percent is 120.*does not have: maths.*code is -5.*sum to 50"):
        parse_data_mixing(block_of(120, maths=50, code=-5))
