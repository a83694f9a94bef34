"""What is looked for in one VOC record: its labels, where its segments stand, its language, and traces of a wrong encoding.

A label is taken as it is written, carried over from an older taxonomy, repaired, or refused with the level at fault.

Of damaged text three kinds are found: U+FFFD, which a decoder writes where it gave up; control characters that no keyboard
writes; and UTF-8 that was read as Windows-1252 or Latin-1 (`Ã©` for `é`, `â€™` for `’`). The last kind is told from real text by
sequences that real spelling does not have; what real text does have, a capital before a closing quote („MENÜ“, „Spaß“, HYVÄ…), is
left alone, so a text whose only damage looks like that is missed. Text damaged through other code pages (1250, 1251) is not
looked for.

Source: The Unicode Standard, table 3-7 (well-formed UTF-8 byte sequences); the Windows-1252 code page.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from voc.labels.taxonomy import LEVELS, LabelPath, Taxonomy, fold_name, join_path
from voc.records.refusals import MISSING, RowError, get_text

if TYPE_CHECKING:
    from voc.config.data import DataConfig
    from voc.labels.changes import TaxonomyChanges

_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")
_MAX_OCCURRENCES = 64
_MAX_TRIES = 2_000

Span = tuple[int, int]
# What may be noted about a label that is accepted.
REPAIRED_LABELS = "repaired_labels"
CARRIED_OVER = "carried_over:"  # followed by the kind of change: `carried_over:merge`

_WRITTEN_NAN = frozenset({"nan", "null", "none", "n/a", "<na>"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")

# The characters that the bytes 80..BF become. Punctuation follows letters in real text too; the rest does not.
_PUNCTUATION = "‚„…‹‘’“”•–—›\xa0«·»´™®°²³ªº¡¿"
_TAIL = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_ODD_TAIL = "".join(c for c in "€ƒ†‡ˆ‰Š‹ŒŽ˜šœžŸ" + "".join(map(chr, range(0xA1, 0xC0))) if c not in _PUNCTUATION)

# Nearly all real text is done after this scan: a letter of the lead bytes C2..F0 and a character of the bytes 80..BF.
_SUSPICIOUS = re.compile(f"[\xc2-\xf0][{_TAIL}]")
_MOJIBAKE = re.compile(
    "|".join(
        [
            f"[ÂÃ][{_ODD_TAIL}°®²³ªº¡¿]",  # Â° Ã© ÃŸ: the Latin-1 letters and signs
            f"(?<=[a-zß-ÿ])[ÂÃÄÅ][{_PUNCTUATION}]",  # mojÄ… naÃ¯: no word goes on with a capital and ends in punctuation
            "(?<![^\\s])[ÂÃ]\xa0",  # à and the hard space, by themselves
            f"[ÄÅ][‚‡ˆ™†›¼½¾±³¥§¹º¡¿{_ODD_TAIL}](?=[a-zß-ÿ])",  # Å‚a: Polish, Czech, Turkish
            f"[\xc2-\xdf][{_TAIL}][\xc2-\xdf][{_ODD_TAIL}]",  # Ð¿Ñ€: Cyrillic, Greek, Hebrew, Arabic
            f"[\xc2-\xdf][{_ODD_TAIL}][\xc2-\xdf][{_TAIL}]",
            f"[ÎÏÐÑØÙ×][{_TAIL}][ÎÏÐÑØÙ×][{_TAIL}]",
            f"â[€„†‡‚ˆ‰Œœ˜š™][{_TAIL}]",  # â€™ â‚¬ âœ…: typographic marks, currencies, symbols
            f"ã[€‚ƒ][{_TAIL}]",  # Japanese
            f"[à-ï][{_TAIL}][{_TAIL}][à-ï][{_TAIL}][{_TAIL}]",  # Chinese, Korean, Thai, Hindi
            f"ï[¼½»][{_TAIL}]",  # full-width punctuation, the byte order mark
            f"ðŸ[{_TAIL}]",  # emoji
        ]
    )
)


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


@dataclass(frozen=True, slots=True)
class LabelReader:
    """How the labels of one row are read.

    Attributes:
        taxonomy: The labels that exist.
        checks: Whether a label may be repaired.
        changes: How labels of older taxonomies are carried over.
        noted: Gets a name for every label that is not taken as it is written.
    """

    taxonomy: Taxonomy
    checks: RowChecks
    changes: TaxonomyChanges | None
    noted: list[str]

    def read(self, segment: Mapping[str, Any]) -> LabelPath:
        """Return the label of a segment.

        A label of the current taxonomy is never looked up in the changes: `parse_changes` made sure that they leave it alone.

        Raises:
            RowError: `schema`, `not_a_number`, `label_retired`, `label_split` or `label_not_in_taxonomy`.
        """
        found = (segment.get("L1"), segment.get("L2"), segment.get("L3"), segment.get("L4"))
        try:
            if found in self.taxonomy.paths:
                return found  # type: ignore[return-value]
        except TypeError:  # a list cannot be looked up; what is wrong with it is said below
            pass
        return self._read_unknown(_check_names(segment))

    def _read_unknown(self, written: LabelPath) -> LabelPath:
        is_forgiving = self.checks.label_matching == "forgiving"
        label = written
        if self.changes is not None:
            carried = self.changes.carry_over(written, forgiving=is_forgiving)
            if carried.reason is not None:
                raise RowError(carried.reason, carried.detail)
            if carried.change is not None:
                label = carried.label
                self.noted.append(CARRIED_OVER + carried.change)
        if label in self.taxonomy.paths:
            return label
        repaired = self.taxonomy.repair(label) if is_forgiving else None
        if repaired is None:
            raise _refuse(written, label, self.taxonomy)
        self.noted.append(REPAIRED_LABELS)
        return repaired


def _check_names(segment: Mapping[str, Any]) -> LabelPath:
    for level in LEVELS:
        name = segment.get(level, MISSING)
        if name is None or (isinstance(name, float) and not math.isfinite(name)):
            raise RowError("not_a_number", f"{level} is {name}: the label was empty when it was exported")
    return get_text(segment, "L1"), get_text(segment, "L2"), get_text(segment, "L3"), get_text(segment, "L4")


def _refuse(written: LabelPath, label: LabelPath, taxonomy: Taxonomy) -> RowError:
    for level, name in zip(LEVELS, written, strict=True):
        if name.lower() in _WRITTEN_NAN:
            return RowError("not_a_number", f"{level} is {name!r}: an empty cell that was exported as a text")
    detail = taxonomy.explain_unknown(label)
    if taxonomy.repair(label) is not None:
        detail += " (data.label_matching: forgiving repairs it)"
    if label != written:
        detail += f" (carried over from {join_path(written)!r})"
    return RowError("label_not_in_taxonomy", detail)


def find_damage(text: str) -> str | None:
    """Describe the first trace of damage in a text; None if there is none."""
    found = _CONTROL.search(text)
    if found is not None:
        return f"{_name(found[0])} at character {found.start()}"
    if text.isascii() or _SUSPICIOUS.search(text) is None:
        return None
    found = _MOJIBAKE.search(text)
    if found is None:
        return None
    meant = _decode_again(found[0])
    return f"{found[0]!r} at character {found.start()}" + (
        f", probably {meant!r} read with another encoding" if meant else ""
    )


def _name(character: str) -> str:
    if character == "\ufffd":
        return "the replacement character U+FFFD"
    return f"the control character U+{ord(character):04X}"


def _decode_again(text: str) -> str:
    """Return what the bytes of a misread piece say in UTF-8; empty if they are cut off."""
    raw = b"".join(_to_byte(character) for character in text)
    return raw.decode("utf-8", "ignore")


def _to_byte(character: str) -> bytes:
    try:
        return character.encode("cp1252")
    except UnicodeEncodeError:
        return character.encode("latin-1", "ignore")  # the five bytes that Windows-1252 leaves undefined
