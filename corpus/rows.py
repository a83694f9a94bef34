"""A row on its way from a file to the training shards: where it came from, before anything was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class InputSplit:
    """A piece of one source that one task reads from its begin to its end, in bounded memory.

    Attributes:
        source: Name of the source.
        uri: The file (path or URI), or the data set id.
        reader: How it is read (`voc.config.data.ReaderName` without `auto`).
        start: First byte (lines), row group (Parquet) or row (datasets).
        end: Where it ends, exclusive; None: at the end of the file.
        day: ISO day of its partition, or None.
        is_replay: True if the day is not newer than the watermark, so only a share of its rows is taken.
    """

    source: str
    uri: str
    reader: str
    start: int = 0
    end: int | None = None
    day: str | None = None
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its file has it: an object in the shape of the contract (`voc.records.records`), not checked yet.

    Attributes:
        value: The object.
        line: Number of the row in its split, from 1.
        raw: The row as it was, for the quarantine (cut to a few KiB if it is long).
        notes: What the reader left out of the row without refusing it, by names to count (`reasoning_content`).
    """

    value: dict[str, Any]
    line: int
    raw: str
    notes: tuple[str, ...] = ()
