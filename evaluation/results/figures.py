"""The types that several files share: shares, intervals, differences. Every figure says its unit."""

from __future__ import annotations

from typing import Annotated, NotRequired

from typing_extensions import TypedDict  # pydantic reads the one of `typing` from Python 3.12 on only

Ratio = Annotated[float, "0 to 1"]
Difference = Annotated[float, "-1 to 1"]
Count = Annotated[int, "a number of things"]
Seconds = Annotated[float, "seconds"]
Tokens = Annotated[int, "tokens"]
Hash = Annotated[str, "SHA-256, hexadecimal"]
Ends = Annotated[list[float], "[low, high]"]


class Share(TypedDict):
    """A part of a whole with its numbers."""

    ratio: Annotated[float | None, "count / n: 0 to 1, for segments_per_expected more; null without a whole"]
    count: Annotated[Count, "the part"]
    n: Annotated[Count, "the whole"]
    interval: Annotated[NotRequired[Ends], "Wilson interval; only where the unit is an answer"]


class Change(TypedDict):
    """A figure of one model minus that of another on the same items."""

    value: Annotated[Difference, "candidate minus reference"]
    low: Annotated[Difference, "lower end of the interval (Newcombe's paired score interval; bootstrap for F1)"]
    high: Annotated[Difference, "upper end"]
    n: Annotated[Count, "pairs of items"]
    gained: Annotated[
        int | None, "items that only the candidate has right; null for figures that are no share of items"
    ]
    lost: Annotated[int | None, "items that only the reference has right; null likewise"]
    p_value: Annotated[Ratio | None, "McNemar's exact two-sided p-value; null likewise"]


class TaxChange(TypedDict):
    """A difference of two changes: it has no items that are right or wrong."""

    value: Annotated[float, "-2 to 2: knowledge change minus generative change"]
    low: Annotated[float, "lower end of the bootstrap interval over questions"]
    high: Annotated[float, "upper end"]
    n: Annotated[Count, "pairs of questions"]


class Figure(TypedDict):
    """A figure of a row of the report's table."""

    value: Annotated[float | None, "the figure; null without items"]
    low: Annotated[float, "lower end of its interval"]
    high: Annotated[float, "upper end"]
    n: Annotated[Count, "items behind it"]
