"""Why one row is refused, and the texts that rows are made of."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MISSING = object()

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = 60


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that cannot be used.

    Attributes:
        line: Line number in its file, from 1.
        reason: A short name to count by.
        detail: What was seen and expected.
        raw: The line as it was.
    """

    line: int
    reason: str
    detail: str
    raw: str

    def to_json(self) -> dict[str, Any]:
        """Return the quarantine entry."""
        return {"line": self.line, "reason": self.reason, "detail": self.detail, "raw": self.raw}


class RowError(ValueError):
    """Why one row is refused: a reason to count by, and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def get_text(value: Mapping[str, Any], name: str) -> str:
    """Return a field that has to be a text.

    Raises:
        RowError: If it is missing or something else.
    """
    found = value.get(name, MISSING)
    if not is_text(found):
        seen = "missing" if found is MISSING else describe(found)
        raise RowError("schema", f"{name} is {seen}, expected a text")
    return found  # type: ignore[return-value]


def describe(value: object) -> str:
    """Show a JSON value in a message: cut where it is long, and not followed down where it is nested deeply."""
    return _SHORT.repr(value)


def is_text(value: object) -> bool:
    """Tell whether a JSON value is a text that UTF-8 can hold: JSON's escapes can spell half a surrogate pair."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
