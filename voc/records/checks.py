"""The checks of a VOC record that need more than one look: what a run is strict about, overlaps, near misses, languages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from voc.labels.taxonomy import fold_name
from voc.records.refusals import RowError

if TYPE_CHECKING:
    from voc.config.data import DataConfig

_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")
_MAX_OCCURRENCES = 64
_MAX_TRIES = 2_000

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RowChecks:
    """How strict a run is with its VOC records.

    Attributes:
        label_matching: `exact`, or `forgiving`: a label that differs by case, spaces or Unicode form is repaired and counted.
        overlapping_segments: `report` (noted) or `refuse`.
        languages: ISO 639-1 codes; a comment in another language is refused. Empty: any language.
    """

    label_matching: Literal["exact", "forgiving"] = "exact"
    overlapping_segments: Literal["report", "refuse"] = "report"
    languages: frozenset[str] = frozenset()

    @classmethod
    def from_config(cls, data: DataConfig) -> RowChecks:
        """Take them from the data section of a configuration."""
        languages = frozenset(code.lower() for code in data.languages)
        return cls(data.label_matching, data.overlapping_segments, languages)


def find_overlap(comment: str, contents: Sequence[str]) -> tuple[str, str] | None:
    """Return two segments that claim the same stretch of a comment; None if each can have a place of its own.

    A content that occurs more than once may stand for any of its occurrences. The places are looked for from left to right;
    where that fails, all of them are tried, within a bound that only text made of repetitions reaches (no overlap, then).

    Args:
        comment: The comment.
        contents: Verbatim pieces of it, none empty.
    """
    end = 0
    for content in contents:
        start = comment.find(content, end)
        if start < 0:
            return _find_overlap_in_any_order(comment, contents)
        end = start + len(content)
    return None


def _find_overlap_in_any_order(comment: str, contents: Sequence[str]) -> tuple[str, str] | None:
    """Search with backtracking, the contents with the fewest places first."""
    places = sorted(
        ((_list_occurrences(comment, c), c) for c in contents), key=lambda item: (len(item[0]), -len(item[1]))
    )
    taken: list[Span] = []
    next_choice = [0] * len(places)
    deepest = tries = 0
    while len(taken) < len(places) and tries < _MAX_TRIES:
        number = len(taken)
        deepest = max(deepest, number)
        spans = places[number][0]
        tries += len(spans)
        free = (i for i in range(next_choice[number], len(spans)) if not _touches(spans[i : i + 1], taken))
        choice = next(free, None)
        if choice is not None:
            next_choice[number] = choice + 1
            taken.append(spans[choice])
        elif not taken:
            spans, homeless = places[deepest]
            return next((c for other, c in places[:deepest] if _touches(other, spans)), homeless), homeless
        else:
            next_choice[number] = 0
            taken.pop()
    return None


def _touches(some: Sequence[Span], others: Sequence[Span]) -> bool:
    return any(a < d and c < b for a, b in some for c, d in others)


def _list_occurrences(comment: str, content: str) -> list[Span]:
    """List where a content occurs, from the left; its own occurrences may overlap."""
    found: list[Span] = []
    start = comment.find(content)
    while start >= 0 and len(found) < _MAX_OCCURRENCES:
        found.append((start, start + len(content)))
        start = comment.find(content, start + 1)
    return found


def explain_not_verbatim(content: str, comment: str) -> str:
    """Say how a segment fails to be a piece of its comment."""
    if not content:
        return "the segment '' is empty"
    said = f"the segment {content!r:.80} is not a piece of the comment"
    if not content.strip():
        return said
    if unicodedata.normalize("NFC", content) in unicodedata.normalize("NFC", comment):
        return f"{said}, but would be in the same Unicode form (NFC)"
    if " ".join(content.split()) in " ".join(comment.split()):
        return f"{said}, but would be without its spaces and line breaks"
    if fold_name(content) in fold_name(comment):
        return f"{said}, but would be if case and spaces did not count"
    return said


def check_language(declared: str, comment: str, languages: frozenset[str]) -> None:
    """Make sure that a comment is in one of the expected languages, if any are.

    The declared language counts; it is detected only where none is declared, and a guess about a few words refuses nothing.

    Raises:
        RowError: `language_malformed` or `language_not_expected`.
    """
    declared = declared.strip()
    if declared and not _LANGUAGE_TAG.fullmatch(declared):
        raise RowError(
            "language_malformed", f"lang is {declared!r:.60}, expected an ISO 639-1 code such as de, or de-AT"
        )
    if not languages:
        return
    from voc.records.language import UNDETERMINED, choose_language, detect_language

    detected = (UNDETERMINED, 0.0) if declared else detect_language(comment)
    code, _ = choose_language(declared, detected, comment)
    if code not in languages and code != UNDETERMINED:
        how = f"declared as {declared!r}" if declared else f"detected with a score of {detected[1]:.2f}"
        expected = ", ".join(sorted(languages))
        raise RowError("language_not_expected", f"the language is {code} ({how}), expected one of {expected}")
