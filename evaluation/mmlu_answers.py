"""Which letter an answer in words gives. Pure.

*Strict* is the reference study's protocol: the closing sentence that the prompt asks for, character by character; if the
answer has several, the last one counts. *Lenient* also takes the usual other forms, so that their difference is the price
of the format and not of knowledge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from voc.prompts import MMLU_CLOSING_SENTENCE

_LETTER = "([ABCD])"
_STRICT = re.compile(re.escape(MMLU_CLOSING_SENTENCE).replace(re.escape("{letter}"), _LETTER))
_LENIENT = (
    re.compile(rf"(?i:answer|choice|option)(?i:\s+is)?\s*:?\s*[\[(*\"']*{_LETTER}\b"),
    re.compile(rf"^[\s\[(*\"']*{_LETTER}(?:[\s\])*\"'.:,]|$)", re.MULTILINE),
)


def read_strictly(text: str) -> str | None:
    """Return the letter of the last closing sentence, or None if there is none."""
    return _last(_STRICT, text)


def read_leniently(text: str) -> str | None:
    """Return the letter under the first of these readings that finds one: strict, "answer is X", a line that opens with X."""
    return read_strictly(text) or next((letter for p in _LENIENT if (letter := _last(p, text))), None)


def score_answer(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return lm-eval's metric of one document: 1 if the strict reading is the right letter."""
    return {"acc": float(read_strictly(results[0]) == doc["answer"])}


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.findall(text)
    return str(found[-1]) if found else None
