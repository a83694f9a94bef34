from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from corpus.sources.chat import convert_converse, convert_openai
from tests.unit.corpus.sources.read_source import make_source, name_items, read_items, read_values, to_jsonl
from voc.records.lines import RawRow
from voc.records.refusals import RowError

SEGMENT = {"content": "good", "L1": "a", "L2": "b", "L3": "c", "L4": "d", "emotion": "joy"}
ANSWER = json.dumps([SEGMENT])


def converse(*turns: tuple[str, Any], system: str = "", **more: Any) -> dict[str, Any]:
    blocks = [(role, content if isinstance(content, list) else [{"text": content}]) for role, content in turns]
    row = {"messages": [{"role": role, "content": content} for role, content in blocks], **more}
    return {"system": [{"text": system}], **row} if system else row


def openai(*turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


FORMS = pytest.mark.parametrize("reader", ["converse", "openai"])


def write_chat(reader: str, *turns: tuple[str, Any], **more: Any) -> dict[str, Any]:
    return converse(*turns, **more) if reader == "converse" else openai(*turns, **more)


def read_one(reader: str, row: dict[str, Any], row_format: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    return (convert_converse if reader == "converse" else convert_openai)(row, row_format, "rows-000001")


@FORMS
def test_a_general_chat_keeps_its_turns_and_category(reader: str) -> None:
    turns = [("user", "q"), ("assistant", "a"), ("user", "q2"), ("assistant", "a2")]
    row, notes = read_one(reader, write_chat(reader, *turns, category="math"), "general")
    assert row == {"messages": [{"role": r, "content": c} for r, c in turns], "category": "math"}
    assert notes == ()


@FORMS
def test_a_labelled_comment_is_the_last_user_turn_and_its_segments_the_answer(reader: str) -> None:
    row, notes = read_one(reader, write_chat(reader, ("user", "Comment: good"), ("assistant", ANSWER)), "voc")
    assert row == {"id": "rows-000001", "comment": "good", "segments": [SEGMENT]}
    assert notes == ()


@FORMS
def test_only_our_own_prefix_is_removed_and_only_once(reader: str) -> None:
    row, _ = read_one(reader, write_chat(reader, ("user", "Comment: Comment: x"), ("assistant", "[]")), "voc")
    assert row["comment"] == "Comment: x"


@FORMS
def test_a_row_with_an_id_and_other_fields_of_the_contract_keeps_them(reader: str) -> None:
    chat = write_chat(reader, ("user", "x"), ("assistant", "[]"), id="mine", lang="de")
    assert read_one(reader, chat, "voc")[0] == {"id": "mine", "comment": "x", "segments": [], "lang": "de"}


@FORMS
def test_earlier_turns_of_a_comment_are_left_out_and_noted(reader: str) -> None:
    chat = write_chat(reader, ("user", "hello"), ("assistant", "hi"), ("user", "x"), ("assistant", "[]"))
    row, notes = read_one(reader, chat, "voc")
    assert (row["comment"], notes) == ("x", ("earlier_turns",))


@FORMS
@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ("fine", "not_json"),
        (f"Here you are: {ANSWER}", "a list inside other text"),
        ('[{"content": "x"}]', "wrong_shape"),
        ("[{", "truncated"),
        ("", "empty"),
    ],
)
def test_an_answer_that_is_not_just_segments_is_refused(reader: str, answer: str, seen: str) -> None:
    with pytest.raises(RowError) as caught:
        read_one(reader, write_chat(reader, ("user", "x"), ("assistant", answer)), "voc")
    assert caught.value.reason == "answer_not_segments"
    assert seen in caught.value.detail


@FORMS
@pytest.mark.parametrize("turns", [[("user", "x")], [("assistant", "[]")], [("assistant", "[]"), ("user", "x")]])
def test_a_chat_that_is_not_question_and_answer_is_no_labelled_comment(reader: str, turns: Any) -> None:
    with pytest.raises(RowError) as caught:
        read_one(reader, write_chat(reader, *turns), "voc")
    assert caught.value.reason == "schema"


@FORMS
@pytest.mark.parametrize(
    "row",
    [
        {},
        {"messages": None},
        {"messages": []},
        {"messages": ["x"]},
        {"messages": [{"role": "robot", "content": []}]},
        {"messages": [{"role": ["user"], "content": []}]},
        {"messages": [{"role": {}, "content": []}]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [7]}]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
    ],
)
def test_what_is_no_chat_is_refused(reader: str, row: dict[str, Any]) -> None:
    with pytest.raises(RowError) as caught:
        read_one(reader, row, "general")
    assert caught.value.reason == "schema"


def test_system_blocks_and_text_blocks_are_joined() -> None:
    chat = converse(("user", [{"text": "a"}, {"text": "b"}]), ("assistant", "c"))
    row, _ = convert_converse({**chat, "system": [{"text": "s"}, {"text": "t"}]}, "general", "")
    assert [turn["content"] for turn in row["messages"]] == ["s\nt", "a\nb", "c"]


def test_reasoning_and_cache_points_are_left_out_and_noted() -> None:
    answer = [
        {"reasoningContent": {"reasoningText": {"text": "hm"}}},
        {"text": "a"},
        {"cachePoint": {"type": "default"}},
    ]
    row, notes = convert_converse(converse(("user", "q"), ("assistant", answer)), "general", "")
    assert row["messages"][-1] == {"role": "assistant", "content": "a"}
    assert notes == ("reasoning_content", "cache_point")


@pytest.mark.parametrize("kind", ["image", "document", "video", "toolUse", "toolResult", "guardContent"])
def test_blocks_that_are_no_text_are_refused(kind: str) -> None:
    with pytest.raises(RowError) as caught:
        convert_converse(converse(("user", [{kind: {}}]), ("assistant", "a")), "general", "")
    assert caught.value.reason == "unsupported_content"
    assert kind in caught.value.detail


@pytest.mark.parametrize("blocks", ["text", [{"text": "a", "image": {}}], [{}], [{"text": 7}], None])
def test_content_that_is_no_list_of_blocks_is_refused(blocks: Any) -> None:
    with pytest.raises(RowError) as caught:
        convert_converse({"messages": [{"role": "user", "content": blocks}]}, "general", "")
    assert caught.value.reason == "schema"


def test_the_newer_name_of_system_and_parts_of_text_are_known() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    row, _ = convert_openai(openai(("developer", "s"), ("user", parts), ("assistant", "c")), "general", "")
    assert row["messages"][:2] == [{"role": "system", "content": "s"}, {"role": "user", "content": "a\nb"}]


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "", "tool_calls": [{}]},
        {"role": "assistant", "content": "a", "weight": 0},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
    ],
)
def test_tools_images_and_weights_are_refused(turn: dict[str, Any]) -> None:
    with pytest.raises(RowError) as caught:
        convert_openai({"messages": [turn]}, "general", "")
    assert caught.value.reason == "unsupported_content"


@pytest.mark.parametrize(("reader", "key"), [("converse", "toolConfig"), ("openai", "tools"), ("openai", "functions")])
def test_a_chat_with_tools_is_refused(reader: str, key: str) -> None:
    with pytest.raises(RowError) as caught:
        read_one(reader, write_chat(reader, ("user", "q"), ("assistant", "a"), **{key: [{}]}), "general")
    assert caught.value.reason == "unsupported_content"


def test_reasoning_of_open_models_is_noted() -> None:
    turn = {"role": "assistant", "content": "a", "reasoning_content": "hm"}
    row, notes = convert_openai({"messages": [{"role": "user", "content": "q"}, turn]}, "general", "")
    assert (row["messages"][-1]["content"], notes) == ("a", ("reasoning_content",))


@FORMS
def test_ids_are_the_file_and_line_however_the_source_is_split(tmp_path: Path, reader: str) -> None:
    chat = write_chat(reader, ("user", "x"), ("assistant", "[]"))
    for day in ("2026-11-23", "2026-11-24"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "part.jsonl").write_bytes(to_jsonl([chat]) + b"\n" + to_jsonl([chat]))
    for split_bytes in (1, 1 << 20):
        rows = read_values(make_source(tmp_path, reader=reader), split_bytes=split_bytes)
        assert [row["id"] for row in rows] == [
            "2026-11-23/part-000001",
            "2026-11-23/part-000003",
            "2026-11-24/part-000001",
            "2026-11-24/part-000003",
        ]


@FORMS
def test_general_chats_are_cut_into_byte_ranges(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(to_jsonl(write_chat(reader, ("user", f"q{n}"), ("assistant", "a")) for n in range(20)))
    source = make_source(path, reader=reader, format="general")
    whole = read_values(source)
    assert len(whole) == 20
    assert read_values(source, split_bytes=37) == whole


def test_a_refused_chat_keeps_its_line(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(to_jsonl([converse(("user", "x"), ("assistant", "[]")), {"messages": 7}]))
    items = read_items(make_source(path, reader="converse"))
    assert isinstance(items[0], RawRow)
    assert (items[1].line, items[1].raw, name_items(items)[1]) == (2, '{"messages": 7}', "schema")
