"""Chat rows of other services under the contract: Bedrock Converse training rows and OpenAI chat rows.

A general row becomes `{messages, category?}`. Of a VOC row the comment is the last user turn (without our own "Comment: "),
the segments are the JSON list of the assistant turn after it, and the system turn is left out, because the run renders its
own. Blocks of text in one turn are joined with line breaks. Reasoning is left out and noted; what only a model with tools
or eyes can read is refused.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html,
https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from voc.prompts import COMMENT_PREFIX
from voc.records.refusals import RowError, is_text
from voc.responses import parse_response

Format = Literal["voc", "general"]
_KEPT_VOC_FIELDS = ("lang", "source", "created_at")
_CONVERSE_ROLES = ("user", "assistant")
_TOOL_ROLES = ("tool", "function")
_OPENAI_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_OPENAI_CALLS = ("tool_calls", "function_call", "audio", "refusal")
_OPENAI_REASONING = ("reasoning_content", "reasoning")


@dataclass
class _Chat:
    turns: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, role: str, texts: list[str]) -> None:
        self.turns.append({"role": role, "content": "\n".join(texts)})


def convert_converse(value: dict[str, Any], row_format: Format, row_id: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Make a row of the contract from a Converse training row.

    Returns:
        The row, and a note per block that was left out.

    Raises:
        RowError: With the reason for which it cannot be used.
    """
    _refuse_tools(value, "toolConfig")
    chat = _Chat()
    system = list(_read_converse_blocks(value.get("system") or [], chat, "system"))
    if system:
        chat.add("system", system)
    for message in _read_messages(value):
        role = message.get("role")
        if not isinstance(role, str) or role not in _CONVERSE_ROLES:
            raise RowError("schema", f"a turn has the role {role!r:.60}, expected user or assistant")
        chat.add(role, list(_read_converse_blocks(message.get("content"), chat, role)))
    return _make_row(value, chat, row_format, row_id)


def convert_openai(value: dict[str, Any], row_format: Format, row_id: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Make a row of the contract from an OpenAI chat row; `developer` is the newer name of `system`.

    Returns:
        The row, and a note per part that was left out.

    Raises:
        RowError: With the reason for which it cannot be used.
    """
    _refuse_tools(value, "tools")
    _refuse_tools(value, "functions")
    chat = _Chat()
    for message in _read_messages(value):
        name = message.get("role")
        if name in _TOOL_ROLES:
            raise RowError("unsupported_content", f"a turn has the role {name}, expected chats without tools")
        if not isinstance(name, str) or name not in _OPENAI_ROLES:
            raise RowError("schema", f"a turn has the role {name!r:.60}, expected one of {', '.join(_OPENAI_ROLES)}")
        for key in _OPENAI_CALLS:
            if message.get(key):
                raise RowError("unsupported_content", f"the {name} turn has {key}, expected text")
        if message.get("weight", 1) != 1:
            raise RowError(
                "unsupported_content", f"the {name} turn has the weight {message['weight']!r:.20}, expected 1"
            )
        chat.notes += ["reasoning_content" for key in _OPENAI_REASONING if message.get(key)]
        chat.add(_OPENAI_ROLES[name], list(_read_openai_parts(message.get("content"), name)))
    return _make_row(value, chat, row_format, row_id)


CONVERTERS: dict[str, Callable[[dict[str, Any], Format, str], tuple[dict[str, Any], tuple[str, ...]]]] = {
    "converse": convert_converse,
    "openai": convert_openai,
}


def _refuse_tools(value: dict[str, Any], key: str) -> None:
    if value.get(key):
        raise RowError("unsupported_content", f"the row has {key}, expected chats without tools")


def _read_messages(value: dict[str, Any]) -> list[dict[str, Any]]:
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RowError("schema", f"messages is {messages!r:.60}, expected a list of turns")
    if not all(isinstance(message, dict) for message in messages):
        raise RowError("schema", "messages holds something that is not an object")
    return messages


def _read_converse_blocks(blocks: Any, chat: _Chat, role: str) -> Iterator[str]:
    if not isinstance(blocks, list):
        raise RowError("schema", f"the content of a {role} turn is {blocks!r:.60}, expected a list of blocks")
    for block in blocks:
        kinds = list(block) if isinstance(block, dict) else []
        if len(kinds) != 1:
            raise RowError("schema", f"a block of a {role} turn is {block!r:.60}, expected an object with one key")
        if kinds[0] == "text" and is_text(block["text"]):
            yield block["text"]
        elif kinds[0] == "text":
            raise RowError("schema", f"the text of a {role} turn is {block['text']!r:.60}, expected a text")
        elif kinds[0] == "reasoningContent":
            chat.notes.append("reasoning_content")
        elif kinds[0] == "cachePoint":
            chat.notes.append("cache_point")
        else:
            raise RowError("unsupported_content", f"a {role} turn holds a block {kinds[0]!r:.40}, expected text")


def _read_openai_parts(content: Any, role: str) -> Iterator[str]:
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(part, dict) and part.get("type") != "text":
            raise RowError("unsupported_content", f"a {role} turn holds {part.get('type')!r:.40}, expected text")
        if not is_text(text):
            raise RowError("schema", f"the content of a {role} turn is {text!r:.60}, expected a text")
        yield str(text)


def _make_row(
    value: dict[str, Any], chat: _Chat, row_format: Format, row_id: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    if row_format == "general":
        category = {"category": value["category"]} if "category" in value else {}
        return {"messages": chat.turns, **category}, tuple(chat.notes)
    turns = [turn for turn in chat.turns if turn["role"] != "system"]
    if [turn["role"] for turn in turns[-2:]] != ["user", "assistant"]:
        raise RowError("schema", "the chat does not end with a user turn and the assistant's answer")
    if len(turns) > 2:
        chat.notes.append("earlier_turns")
    answer = parse_response(turns[-1]["content"])
    if not answer.strict:
        seen = answer.failure or "a list inside other text"
        raise RowError("answer_not_segments", f"the answer is {seen}, expected nothing but a JSON list of segments")
    row = {
        "id": value.get("id", row_id),
        "comment": turns[-2]["content"].removeprefix(COMMENT_PREFIX),
        "segments": [segment.to_json() for segment in answer.segments],
    }
    return {**row, **{key: value[key] for key in _KEPT_VOC_FIELDS if key in value}}, tuple(chat.notes)
