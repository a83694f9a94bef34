"""Personal data is replaced before anything is stored; what was replaced is counted, and neither kept nor logged.

`[email]`, `[phone]` and `[order number]` stand where an e-mail address, a telephone number or an order number stood. The texts of
a row are redacted, its source too; its id is not, since a row has to be told from the next one.

E-mail addresses are found by their form. For telephone numbers the form has to be one that prices, dates, times, sizes and model
numbers do not have: a leading plus or 00, a trunk 0 with the groups that countries write, the North American groups, or any
groups of 7 to 15 digits right after a word for telephone. A bare number without any of these is left alone.

Source: RFC 5322, section 3.4.1 (what an address may look like; quoted local parts are left out); ITU-T E.123 and E.164.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from voc.config.data import RedactionKind

PLACEHOLDERS: Mapping[RedactionKind, str] = {
    "email": "[email]",
    "phone": "[phone]",
    "order_number": "[order number]",
}
_ESCAPED_CODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED_SPACE = re.compile(r"\\[nrtbf]")
_CUT_EMAIL = re.compile(r"[\w.+%'-]+[@＠][\w.-]*\Z")
Span = tuple[int, int]

# The possessive run after a look-behind keeps the search linear on a megabyte of letters.
_ADDRESS = r"[\w.+%'-]++[@＠](?:[\w-]++\.)+(?:xn--[\w-]+|[^\W\d_]{2,})"
_EMAIL = re.compile(rf"(?<![\w.+%'-]){_ADDRESS}")
_NEXT_EMAIL = re.compile(_ADDRESS)

_GAP = r"[ \xa0\u2009\u202f.\-\u2010\u2011\u2013/()]{0,2}"
_SPACE = r"[ \xa0\u2009\u202f]"
_JOIN = r"[ \xa0\u2009\u202f/\-\u2010\u2011\u2013]"
_BEFORE = r"(?<![A-Za-z0-9+])(?<![0-9][./,:])(?<![A-Za-z0-9]-)(?<![0-9] )"
_AFTER = r"(?![A-Za-z0-9])(?![-./,:]\d)"
_CUE = (
    r"(?i:tel(?:efon|efono|éfono|ephone)?|téléphone|phone|mobile?|mobilfunk|handy|whatsapp|cell|fax|тел(?:ефон)?|电话|電話|手机|携帯)"
    r"(?i:nummer|number|nr)?(?i:[ \xa0](?:number|nummer|num(?:ero|éro)?|nr|no|is|ist|est|es)\b){0,2}[ \xa0.:：#=]{0,3}"
)
_DATE = (
    r"(?:\d{1,2}(?P<a>[-./])\d{1,2}(?P=a)\d{2,4}|\d{4}(?P<b>[-./])\d{1,2}(?P=b)\d{1,2})(?!\d)(?![-./]\d)"
    r"|\d{1,2} \d{1,2} (?:19|20)\d\d(?! ?\d)"
)

_PHONES = [
    re.compile(pattern)
    for pattern in (
        # +49 (0) 30 1234567, 0049 171 1234567, +1 555 123 4567: 8 to 15 digits
        rf"(?<![A-Za-z0-9+])(?:\+{_SPACE}?|(?<![0-9] )00{_SPACE}?)\(?(?:1{_GAP}[2-9]|[2-9]{_GAP}\d)(?:{_GAP}\d){{6,13}}(?!\d)",
        # 030 1234567, 0171/123 45 67, 07700 900123: an area code of three or more digits
        rf"{_BEFORE}\(?0[1-9]\d{{1,4}}\)?{_JOIN}{{1,3}}(?=(?:{_JOIN}?\d){{5,9}}{_AFTER})\d{{2,8}}(?:{_JOIN}\d{{2,5}}){{0,3}}{_AFTER}",
        # 03-1234-5678, 02 9876 5432, 06 12345678
        rf"{_BEFORE}\(?0[1-9]\)?(?:[ -]\d{{4}}[ -]\d{{4}}|[ /-]\d{{7,8}}){_AFTER}",
        # 01 23 45 67 89, 01.23.45.67.89
        rf"{_BEFORE}0[1-9]([ .\-\xa0]?)\d\d(?:\1\d\d){{3}}{_AFTER}",
        # 01711234567
        rf"{_BEFORE}0[1-9]\d{{8,10}}{_AFTER}",
        # (555) 234-5678, 1-800-555-1234, 555.234.5678
        rf"{_BEFORE}(?:1[-. ])?(?:\([2-9]\d\d\){_SPACE}?[2-9]\d\d[-. ]|[2-9]\d\d([-.])[2-9]\d\d\1)\d{{4}}{_AFTER}",
        # Tel. 501 234 567
        rf"(?<![^\W\d_]){_CUE}(?!{_DATE})(?P<number>\+?\(?\d(?:[ \xa0()/-]{{0,2}}\d){{6,14}}){_AFTER}",
    )
]
_MANY_DIGITS = re.compile(r"(?:\d[^\d\n]{0,4}){7}")


class Match(NamedTuple):
    """A piece of a text that is replaced.

    Attributes:
        start: Its first character.
        end: The character after its last one.
        kind: What it is.
    """

    start: int
    end: int
    kind: RedactionKind


class Redactor:
    """Replaces the chosen kinds of personal data."""

    def __init__(self, kinds: Collection[RedactionKind], order_number_pattern: str) -> None:
        """Choose what is replaced.

        Args:
            kinds: Any of `email`, `phone`, `order_number`; none: everything stays as it is.
            order_number_pattern: Regular expression of an order number.
        """
        self.kinds = frozenset(kinds)
        self._order_number = re.compile(order_number_pattern)

    def redact(self, text: str) -> tuple[str, Counter[str]]:
        """Return the text with its personal data replaced, and how much of each kind there was."""
        matches = self._find(text)
        return _replace(text, matches), Counter(match.kind for match in matches)

    def redact_voc(self, value: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
        """Redact a VOC row, not checked yet: its comment, its segments in step with it, and where it came from.

        A segment that was a piece of the comment is a piece of the redacted comment. Where a segment's border cuts through
        something that is replaced, the placeholder belongs to the segment in which it begins; a segment without any other text
        keeps it. A segment that is not a piece of the comment is redacted by itself, for the check that refuses it.

        Returns:
            A redacted copy (the row itself, if nothing is replaced) and the counts of the comment and the source.
        """
        if not self.kinds:
            return value, Counter()
        comment, segments = value.get("comment"), value.get("segments")
        origin, of_origin = value.get("source"), Counter[str]()
        if isinstance(origin, str):  # a mailbox, for example
            origin, of_origin = self.redact(origin)
            value = {**value, "source": origin} if of_origin else value
        matches = self._find(comment) if isinstance(comment, str) else []
        if not matches and not self._has_stray_data(comment, segments):
            return value, of_origin
        redacted = dict(value)
        if isinstance(comment, str):
            redacted["comment"] = _replace(comment, matches)
        if isinstance(segments, list):
            redacted["segments"] = self._redact_segments(segments, comment, matches)
        return redacted, of_origin + Counter(match.kind for match in matches)

    def redact_general(self, value: dict[str, Any]) -> tuple[dict[str, Any], Counter[str]]:
        """Redact a general row, not checked yet: the texts under `messages`, `prompt` and `completion`, roles excepted."""
        counts: Counter[str] = Counter()
        if not self.kinds:
            return value, counts
        redacted = dict(value)
        try:
            for name in ("messages", "prompt", "completion"):
                if name in value:
                    redacted[name] = self._redact_tree(value[name], counts)
        except RecursionError:  # no chat is nested like that: the row is refused, and its raw line redacted
            return value, Counter()
        return (redacted, counts) if counts else (value, counts)

    def redact_raw(self, raw: str) -> str:
        r"""Redact a row as its file has it, whatever is wrong with it: every text of a JSON value, or the line as a whole.

        A line that is not JSON may be cut off, so the beginning of an address at its end goes too; where something is found in
        it, escapes such as `\n` and `\u0040` are resolved, behind which it could hide.
        """
        if not self.kinds:
            return raw
        counts: Counter[str] = Counter()
        try:
            redacted = self._redact_tree(json.loads(raw), counts)
        except (ValueError, RecursionError):
            return self._redact_broken(raw)
        return json.dumps(redacted, ensure_ascii=False) if counts else raw

    def _redact_broken(self, raw: str) -> str:
        resolved = _ESCAPED_CODE.sub(lambda found: chr(int(found[1], 16)), _ESCAPED_SPACE.sub(" ", raw))
        redacted, counts = self.redact(resolved)
        if "email" in self.kinds:
            redacted, cut = _CUT_EMAIL.subn(PLACEHOLDERS["email"], redacted)
            counts["email"] += cut
        return redacted.encode("utf-8", "backslashreplace").decode() if counts.total() else raw

    def _find(self, text: str) -> list[Match]:
        """Find what is replaced, in order and without overlaps: of two that overlap an address, then an order number stays."""
        taken: list[Match] = []
        for kind in ("email", "order_number", "phone"):
            if kind in self.kinds:
                for start, end in sorted(self._find_kind(text, kind), key=lambda span: (span[0], -span[1])):
                    if start < end and all(end <= other.start or other.end <= start for other in taken):
                        taken.append(Match(start, end, kind))
        return sorted(taken)

    def _find_kind(self, text: str, kind: RedactionKind) -> Iterator[tuple[int, int]]:
        if kind == "email":
            return find_emails(text)
        if kind == "phone":
            return find_phones(text)
        return (found.span() for found in self._order_number.finditer(text))

    def _has_stray_data(self, comment: Any, segments: Any) -> bool:
        """Tell whether a segment that is not a piece of the comment holds personal data."""
        if not self.kinds or not isinstance(segments, list):
            return False
        contents = [item.get("content") for item in segments if isinstance(item, dict)]
        return any(
            isinstance(content, str) and not (isinstance(comment, str) and content in comment) and self._find(content)
            for content in contents
        )

    def _redact_segments(self, segments: list[Any], comment: Any, matches: Sequence[Match]) -> list[Any]:
        redacted: list[Any] = []
        cursor = 0
        for item in segments:
            content = item.get("content") if isinstance(item, dict) else None
            if not isinstance(content, str):
                redacted.append(item)
                continue
            start = _locate(content, comment, cursor) if isinstance(comment, str) else -1
            if start < 0:
                redacted.append({**item, "content": self.redact(content)[0]})
                continue
            cursor = start + len(content)
            redacted.append({**item, "content": _replace_piece(comment, start, cursor, matches)})
        return redacted

    def _redact_tree(self, value: Any, counts: Counter[str]) -> Any:
        """Redact every text in a JSON value, keys of objects included; a chat's roles have nothing to be found in."""
        if isinstance(value, str):
            redacted, found = self.redact(value)
            counts.update(found)
            return redacted
        if isinstance(value, list):
            return [self._redact_tree(item, counts) for item in value]
        if isinstance(value, dict):
            return {self._redact_tree(key, counts): self._redact_tree(item, counts) for key, item in value.items()}
        return value


def _locate(content: str, comment: str, cursor: int) -> int:
    """Return where a segment begins: after the one before it if it can, else where it comes first; -1: nowhere."""
    start = comment.find(content, cursor) if content else -1
    return start if start >= 0 or not content else comment.find(content)


def _replace(text: str, matches: Sequence[Match]) -> str:
    return _replace_piece(text, 0, len(text), matches)


def _replace_piece(text: str, start: int, end: int, matches: Sequence[Match]) -> str:
    """Return what a piece of a text is in the redacted text."""
    inside = [match for match in matches if match.start < end and start < match.end]
    begins = [match for match in inside if match.start >= start]
    tail_of = [match for match in inside if match.start < start]
    parts: list[str] = []
    position = tail_of[0].end if tail_of else start
    for match in begins:
        parts += [text[position : match.start], PLACEHOLDERS[match.kind]]
        position = match.end
    parts.append(text[position:end])
    redacted = "".join(parts)
    return redacted if redacted.strip() or not tail_of else PLACEHOLDERS[tail_of[0].kind] + redacted


def find_emails(text: str) -> Iterator[Span]:
    """Yield where e-mail addresses are."""
    if "@" not in text and "＠" not in text:
        return
    found = _EMAIL.search(text)
    while found is not None:
        yield found.span()
        # One address may follow another with nothing but a dash between them.
        found = _NEXT_EMAIL.match(text, found.end()) or _EMAIL.search(text, found.end())


def find_phones(text: str) -> Iterator[Span]:
    """Yield where telephone numbers are; the places may overlap."""
    if _MANY_DIGITS.search(text) is None:
        return
    for pattern in _PHONES:
        for found in pattern.finditer(text):
            yield found.span("number" if "number" in pattern.groupindex else 0)
