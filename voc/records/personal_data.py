"""Where e-mail addresses and telephone numbers are in a text.

E-mail addresses are found by their form. For telephone numbers the form has to be one that prices, dates, times, sizes and model
numbers do not have: a leading plus or 00, a trunk 0 with the groups that countries write, the North American groups, or any
groups of 7 to 15 digits right after a word for telephone. A bare number without any of these is left alone.

Source: RFC 5322, section 3.4.1 (what an address may look like; quoted local parts are left out); ITU-T E.123 and E.164.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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
