"""ACOS files as a source, line by line as `python -m voc import acos` reads them: the same records and the same ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from corpus.readers.addresses import make_id_stem, make_row_id
from corpus.readers.lines import RAW_CHARS, read_lines
from corpus.rows import RawRow
from voc.importers.acos import make_segments, parse_line
from voc.records.records import VocRecord
from voc.records.refusals import Rejection, RowError

if TYPE_CHECKING:
    from corpus.rows import InputSplit
    from voc.config.data import SourceConfig


def read_acos(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Iterator[RawRow | Rejection]:
    """Yield the record of every line; a blank line is refused, as the importer does."""
    stem = make_id_stem(split, source)
    for line in read_lines(split, max_row_bytes):
        if isinstance(line, Rejection):
            yield line
        elif line.is_too_long:
            yield line.reject_too_long(max_row_bytes)
        else:
            try:
                text, quadruples = parse_line(line.data)
                record = VocRecord(make_row_id(stem, line.number), text, make_segments(text, quadruples))
            except RowError as error:
                yield line.reject(error.reason, error.detail)
            else:
                raw = line.data.decode("utf-8", "backslashreplace")
                yield RawRow(record.to_json(), line.number, raw[:RAW_CHARS].removesuffix("\r"))
