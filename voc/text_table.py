"""Tables as plain text for a terminal: columns aligned by what is seen, texts of strangers made harmless, width bounded.

(`evaluation.report.text_tables` aligns its own columns: that file must also run alone, beside a `report.json`.)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

GAP = "  "
MAX_WIDTH = 120
_MIN_TEXT_WIDTH = 8
# Characters that turn the reading direction of everything after them.
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def format_columns(rows: Sequence[Sequence[str]], *, num_text_columns: int = 1, max_width: int = MAX_WIDTH) -> str:
    """Align rows in columns, with a rule under the first row.

    Args:
        rows: The head and the rows, all of one length.
        num_text_columns: The first columns are texts: aligned left, and shortened in the middle where the table would be too
            wide. The others are figures: aligned right, never shortened.
        max_width: Wanted width; only figures can make the table wider.
    """
    cells = [[make_printable(cell) for cell in row] for row in rows]
    widths = [max(measure_width(row[column]) for row in cells) for column in range(len(cells[0]))]
    _shrink(widths, num_text_columns, max_width)
    lines = [_format_row(row, widths, num_text_columns) for row in cells]
    return "\n".join([lines[0], GAP.join("-" * width for width in widths), *lines[1:]])


def make_printable(text: str) -> str:
    """Return a text that stays on its line: control characters and marks that turn the reading direction are spelled out."""
    return "".join(_spell(char) if _is_unsafe(char) else char for char in text)


def measure_width(text: str) -> int:
    """Return the columns that a text takes in a terminal; wide characters take two, combining ones none."""
    return sum(_measure(char) for char in text)


def shorten(text: str, width: int) -> str:
    """Cut a text to some columns, in its middle: both the begin and the end of a path say what it is."""
    if measure_width(text) <= width:
        return text
    tail_width = (width - 1) // 2
    head = _take(text, width - 1 - tail_width)
    return f"{head}…{_take(text[::-1], tail_width)[::-1]}"


def _shrink(widths: list[int], num_text_columns: int, max_width: int) -> None:
    while sum(widths) + len(GAP) * (len(widths) - 1) > max_width:
        column = max(range(num_text_columns), key=lambda column: widths[column], default=None)
        if column is None or widths[column] <= _MIN_TEXT_WIDTH:
            return
        widths[column] -= 1


def _format_row(row: Sequence[str], widths: Sequence[int], num_text_columns: int) -> str:
    parts = []
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        text = shorten(cell, width) if column < num_text_columns else cell
        padding = " " * (width - measure_width(text))
        parts.append(f"{text}{padding}" if column < num_text_columns else f"{padding}{text}")
    return GAP.join(parts).rstrip()


def _take(text: str, width: int) -> str:
    taken = 0
    for index, char in enumerate(text):
        taken += _measure(char)
        if taken > width:
            return text[:index]
    return text


def _measure(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def _is_unsafe(char: str) -> bool:
    return char in _DIRECTION_MARKS or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")


def _spell(char: str) -> str:
    return ascii(char)[1:-1]
