"""The rows that training and evaluation read, and the reasons for which one row is refused.

A VOC record is `{id, comment, segments: [{content, L1, L2, L3, L4, emotion}], lang?, source?, created_at?}`. A general row
is OpenAI chat `{messages, category?}` or, for plain text continuation, `{prompt, completion, category?}`.
`voc.records.acceptance` applies this to files, with what a run's configuration says.

Reasons of a refused VOC record: `schema`, `empty_comment`, `encoding_damage`, `not_a_number`, `label_not_in_taxonomy`,
`label_retired`, `label_split`, `segment_not_verbatim`, `segments_overlap`, `language_malformed`, `language_not_expected`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from voc.labels.taxonomy import LEVELS, LabelPath, Taxonomy
from voc.records.checks import RowChecks, check_language, explain_not_verbatim, find_overlap
from voc.records.label_reading import LabelReader
from voc.records.refusals import RowError, describe, get_text, is_text
from voc.records.text_damage import find_damage

if TYPE_CHECKING:
    from voc.labels.changes import TaxonomyChanges

ROLES = ("system", "user", "assistant")
# What may be noted about a row that is accepted, beside what `voc.records.label_reading` notes about its labels.
SEGMENTS_OVERLAP = "segments_overlap"
ENCODING_DAMAGE = "encoding_damage"

_OPTIONAL_FIELDS = ("lang", "source", "created_at")
_STRICT = RowChecks()


@dataclass(frozen=True, slots=True)
class Segment:
    """A verbatim piece of a comment with its label and emotion."""

    content: str
    label: LabelPath
    emotion: str

    def to_json(self) -> dict[str, str]:
        """Return the object that the model is asked to write, keys in contract order."""
        return {"content": self.content, **dict(zip(LEVELS, self.label, strict=True)), "emotion": self.emotion}


@dataclass(frozen=True, slots=True)
class VocRecord:
    """One comment and its gold segments (none, if nothing in it has a label)."""

    id: str
    comment: str
    segments: tuple[Segment, ...]
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as the contract writes it."""
        return {"id": self.id, "comment": self.comment, "segments": [s.to_json() for s in self.segments], **self.extra}


@dataclass(frozen=True, slots=True)
class GeneralRecord:
    """One general row: a chat, or a plain prompt with its completion.

    Attributes:
        messages: Chat turns; empty for a plain row.
        prompt: Plain text that is not learned; empty for a chat.
        completion: Plain text that is learned; empty for a chat.
        category: The kind of data, for reports.
    """

    messages: tuple[Mapping[str, str], ...] = ()
    prompt: str = ""
    completion: str = ""
    category: str = "general"

    def to_json(self) -> dict[str, Any]:
        """Return the row as the contract writes it."""
        if self.messages:
            return {"messages": [dict(m) for m in self.messages], "category": self.category}
        return {"prompt": self.prompt, "completion": self.completion, "category": self.category}


def parse_voc_record(
    value: Mapping[str, Any],
    taxonomy: Taxonomy,
    *,
    checks: RowChecks = _STRICT,
    changes: TaxonomyChanges | None = None,
    notes: Counter[str] | None = None,
) -> VocRecord:
    """Check one VOC record.

    Args:
        value: The row.
        taxonomy: The labels that exist.
        checks: How strict to be.
        changes: How labels of older taxonomies are carried over.
        notes: Counts what is noticed about an accepted row: repaired labels, labels carried over, overlapping segments.

    Raises:
        RowError: With the first reason for which it cannot be used.
    """
    identifier, comment = get_text(value, "id"), get_text(value, "comment")
    if not identifier:
        raise RowError("schema", "id is empty")
    if not comment.strip():
        raise RowError("empty_comment", f"the comment of {identifier!r} is empty")
    damage = find_damage(comment)
    if damage is not None:
        raise RowError("encoding_damage", f"the comment has {damage}")
    raw_segments = value.get("segments")
    if not isinstance(raw_segments, list):
        raise RowError("schema", f"segments is {type(raw_segments).__name__}, expected a list of objects")
    noted: list[str] = []  # a row that is refused further down must leave no notes behind
    labels = LabelReader(taxonomy, checks, changes, noted)
    segments = tuple([_parse_segment(item, comment, labels) for item in raw_segments])
    if len(segments) > 1:
        _check_overlap(comment, segments, checks, noted)
    extra = {name: get_text(value, name) for name in _OPTIONAL_FIELDS if value.get(name) is not None}
    check_language(extra.get("lang", ""), comment, checks.languages)
    if notes is not None and noted:
        notes.update(noted)
    return VocRecord(identifier, comment, segments, extra)


def parse_general_record(value: Mapping[str, Any], *, notes: Counter[str] | None = None) -> GeneralRecord:
    """Check one general row.

    Damaged text is noted and not refused: a chat may well be about control characters or wrong encodings.

    Args:
        value: The row.
        notes: Counts what is noticed about an accepted row.

    Raises:
        RowError: With the first reason for which it cannot be used.
    """
    category = value.get("category", "general")
    if not is_text(category) or not category:
        raise RowError("schema", f"category is {describe(category)}, expected a name")
    if "messages" not in value:
        prompt, completion = get_text(value, "prompt"), get_text(value, "completion")
        if not completion:
            raise RowError("nothing_to_learn", "the completion is empty")
        _note_damage((prompt, completion), notes)
        return GeneralRecord(prompt=prompt, completion=completion, category=category)
    messages = value["messages"]
    if not isinstance(messages, list) or not messages:
        raise RowError("schema", f"messages is {describe(messages)}, expected a list of chat turns")
    turns = []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES or not is_text(message.get("content")):
            raise RowError(
                "schema", f"the turn {describe(message)} lacks a role of {', '.join(ROLES)} or a text content"
            )
        turns.append({"role": message["role"], "content": message["content"]})
    if turns[-1]["role"] != "assistant" or not turns[-1]["content"]:
        raise RowError("nothing_to_learn", "the chat does not end with an assistant turn that says something")
    _note_damage((turn["content"] for turn in turns), notes)
    return GeneralRecord(messages=tuple(turns), category=category)


def _note_damage(texts: Iterable[str], notes: Counter[str] | None) -> None:
    if notes is not None and any(find_damage(text) for text in texts):
        notes[ENCODING_DAMAGE] += 1


def _parse_segment(value: Any, comment: str, labels: LabelReader) -> Segment:
    if not isinstance(value, dict):
        raise RowError("schema", f"a segment is {describe(value)}, expected an object")
    label = labels.read(value)
    content, emotion = get_text(value, "content"), get_text(value, "emotion")
    if not content or content not in comment:
        raise RowError("segment_not_verbatim", explain_not_verbatim(content, comment))
    return Segment(content, label, emotion)


def _check_overlap(comment: str, segments: Sequence[Segment], checks: RowChecks, noted: list[str]) -> None:
    overlap = find_overlap(comment, [segment.content for segment in segments])
    if overlap is None:
        return
    if checks.overlapping_segments == "refuse":
        raise RowError(
            "segments_overlap", f"the segments {overlap[0]!r:.60} and {overlap[1]!r:.60} claim the same words"
        )
    noted.append(SEGMENTS_OVERLAP)
