from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.export import make_converse
from tests.unit.corpus.sources.read_source import make_source, read_values, to_jsonl
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.prompts import render_system
from voc.records.records import GeneralRecord, Segment, VocRecord, parse_general_record
from voc.records.refusals import RowError

PATH = ("Product", "Battery", "Use", "Runtime")
TAXONOMY = Taxonomy((Leaf(PATH, "how long it lasts"), Leaf(("Service", "Support", "Use", "Speed"), "how fast")))
quick = settings(deadline=None, max_examples=60, database=None)


def make_record(comment: str, *contents: str) -> VocRecord:
    return VocRecord("id", comment, tuple(Segment(content, PATH, "joy") for content in contents))


def test_a_comment_becomes_the_rendered_prompt_and_the_answer() -> None:
    row = make_converse(make_record("good battery", "battery"), "taxonomy", TAXONOMY)
    assert row["schemaVersion"] == "bedrock-conversation-2024"
    assert row["system"] == [{"text": render_system("taxonomy", TAXONOMY)}]
    user, assistant = row["messages"]
    assert user == {"role": "user", "content": [{"text": "Comment: good battery"}]}
    assert json.loads(assistant["content"][0]["text"])[0]["content"] == "battery"
    assert list(row) == ["schemaVersion", "system", "messages"]


def test_a_chat_without_a_system_turn_has_no_system_key() -> None:
    chat = GeneralRecord(messages=({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}))
    row = make_converse(chat, "internalized", TAXONOMY)
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
def test_what_the_format_cannot_say_is_refused(record: GeneralRecord, problem: str) -> None:
    with pytest.raises(RowError, match=problem):
        make_converse(record, "internalized", TAXONOMY)


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
    path.write_bytes(to_jsonl(make_converse(record, variant, TAXONOMY) for record in records))
    rows = read_values(make_source(path, reader="converse"), max_row_bytes=1 << 20)
    assert rows == [{**r.to_json(), "id": f"rows-{n:06d}"} for n, r in enumerate(records, start=1)]


@quick
@given(chats=CHATS)
def test_chats_written_are_read_back(tmp_path_factory: pytest.TempPathFactory, chats: list[GeneralRecord]) -> None:
    path = tmp_path_factory.mktemp("written") / "rows.jsonl"
    path.write_bytes(to_jsonl(make_converse(chat, "internalized", TAXONOMY) for chat in chats))
    rows = read_values(make_source(path, reader="converse", format="general"), max_row_bytes=1 << 20)
    assert [parse_general_record(row) for row in rows] == chats
