"""What an answer in words says: its letter, strictly and leniently read, and how it fails where it has none. Pure.

*Strict* is the reference study's protocol: the closing sentence that the prompt asks for, character by character; if the
answer has several, the last one counts. *Lenient* also takes the usual other forms, so that their difference is the price
of the format and not of knowledge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from voc.prompts import MMLU_CLOSING_SENTENCE
from voc.responses import looks_like_voc, parse_response

# What an answer is, in order of precedence: each answer is exactly one of them.
AnswerKind = Literal["right", "wrong_letter", "schema_leak", "refusal", "truncated", "empty", "other_form", "no_letter"]
CUT_REASON = "length"
_LETTER = "([ABCD])"
_STRICT = re.compile(re.escape(MMLU_CLOSING_SENTENCE).replace(re.escape("{letter}"), _LETTER))
# White space is bounded: after a run of it, an unbounded pattern tries every split, minutes for a megabyte of blanks.
_LENIENT = (
    re.compile(rf"(?i:answer|choice|option)(?i:\s{{1,8}}is)?\s{{0,8}}:?\s{{0,8}}[\[(*\"']{{0,8}}{_LETTER}\b"),
    re.compile(rf"^[ \t\[(*\"']{{0,8}}{_LETTER}(?:[\])*\"'.:,]|[ \t]{{0,8}}$)", re.MULTILINE),
)
_REFUSAL = re.compile(
    r"\b(?:I(?:['’]m| am) (?:sorry|unable|not able)|I (?:can(?:['’]t|not)|won['’]t|will not|am not able to) "
    r"(?:help|answer|assist|provide|respond|comply|do that)|as an AI\b)",
    re.IGNORECASE,
)
_REFUSAL_WINDOW = 400


def read_strictly(text: str) -> str | None:
    """Return the letter of the last closing sentence, or None if there is none."""
    return _last(_STRICT, text)


def read_leniently(text: str) -> str | None:
    """Return the letter under the first of these readings that finds one: strict, "answer is X", a line that opens with X.

    A line that opens with a letter and goes on in words without a bracket or a stop is prose ("A day later ...").
    """
    return read_strictly(text) or next((letter for p in _LENIENT if (letter := _last(p, text))), None)


def leaks_schema(text: str) -> bool:
    """Tell whether an answer to a question of general knowledge is VOC JSON, a fragment of it, or carries its keys."""
    return looks_like_voc(text) or (text.lstrip().startswith("[") and parse_response(text).strict)


def is_refusal(text: str) -> bool:
    """Tell whether an answer declines (English phrases in its first 400 characters)."""
    return _REFUSAL.search(text[:_REFUSAL_WINDOW]) is not None


def describe_answer(text: str, finish_reason: str, answer: str) -> dict[str, Any]:
    """Return everything that is read from one generative answer.

    Returns:
        `strict` and `lenient` letters, `correct` (strictly), `schema_leak`, `refusal`, `cut` (the answer reached its
        longest length), and `kind`.
    """
    strict, lenient = read_strictly(text), read_leniently(text)
    found = {
        "strict": strict,
        "lenient": lenient,
        "correct": strict == answer,
        "schema_leak": leaks_schema(text),
        "refusal": is_refusal(text),
        "cut": finish_reason == CUT_REASON,
    }
    return found | {"kind": name_kind(text, found)}


def name_kind(text: str, found: Mapping[str, Any]) -> AnswerKind:
    """Return the one kind of an answer from what was read in it; the first that fits, in the order of `AnswerKind`."""
    rules: tuple[tuple[AnswerKind, bool], ...] = (
        ("right", found["correct"]),
        ("wrong_letter", found["strict"] is not None),
        ("schema_leak", found["schema_leak"]),
        ("refusal", found["refusal"]),
        ("truncated", found["cut"]),
        ("empty", not text.strip()),
        ("other_form", found["lenient"] is not None),
    )
    return next((kind for kind, holds in rules if holds), "no_letter")


def score_answer(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return lm-eval's metric of one document: 1 if the strict reading is the right letter."""
    return {"acc": float(read_strictly(results[0]) == doc["answer"])}


def score_letter(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return lm-eval's metric of one letter-constrained document: 1 if the letter is the right one."""
    return {"acc": float(results[0].strip() == doc["answer"])}


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.findall(text)
    return str(found[-1]) if found else None
