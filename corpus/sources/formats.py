"""The registry of input formats: how each is named in `data.sources[].reader`, which files it has, how they are cut and read.

Every row of a split is given once, in file order, as it is or as a refusal with its reason. A reader never holds a whole file.
A file that is damaged gives what it still has, and one refusal for the rest. Only what would be wrong with every row of a
file (a missing column, say) is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from corpus.sources.arrow_tables import list_row_groups, read_dataset, read_parquet
from corpus.sources.chat import CONVERTERS
from corpus.sources.csv_rows import read_csv
from corpus.sources.rows import (
    InputSplit,
    Range,
    Rows,
    SourceFile,
    SourceFormat,
    make_id_stem,
    make_row_id,
    read_split_lines,
)
from voc.errors import ConfigError
from voc.importers.acos import make_segments, parse_line
from voc.records.lines import RAW_CHARS, RawRow, read_objects
from voc.records.records import VocRecord
from voc.records.refusals import Rejection, RowError

if TYPE_CHECKING:
    from voc.config.data import SourceConfig


def read_split(split: InputSplit, source: SourceConfig, *, max_row_bytes: int) -> Rows:
    """Yield the rows of a split in bounded memory; nothing is checked against the taxonomy here.

    Args:
        split: What is read, as `corpus.sources.splits.list_splits` listed it.
        source: Its source: the format, the map of columns, the split of a data set.
        max_row_bytes: A longer row is refused (`row_too_large`) and not held.

    Raises:
        DataError: If the file is not what the source says it is.
        StoreError: If it cannot be reached.
    """
    if split.reader not in FORMATS:
        raise ConfigError(
            f"the split {split.uri} has the reader {split.reader!r}", expected=f"one of {', '.join(sorted(FORMATS))}"
        )
    return FORMATS[split.reader].read(split, source, max_row_bytes)


def cut_range(total: int, step: int) -> Iterator[Range]:
    """Cut 0..total into ranges of `step`, the last shorter."""
    yield from pairwise([*range(0, total, max(1, step)), total])


def _cut_bytes(file: SourceFile, source: SourceConfig, split_bytes: int) -> Iterator[Range]:
    return cut_range(file.size_bytes, split_bytes)


def _cut_chats(file: SourceFile, source: SourceConfig, split_bytes: int) -> Iterator[Range]:
    """Cut a file of general chats; of VOC chats the ids count lines, so they are read whole."""
    return cut_range(file.size_bytes, split_bytes if source.format == "general" else file.size_bytes)


def _cut_row_groups(file: SourceFile, source: SourceConfig, split_bytes: int) -> Iterator[Range]:
    sizes = list_row_groups(file.uri)
    start, size = 0, 0
    for index, group_size in enumerate(sizes):
        if index > start and size + group_size > split_bytes:
            yield start, index
            start, size = index, 0
        size += group_size
    yield start, len(sizes) or None  # a footer that cannot be read has none: the reader says what is wrong


def _keep_whole(file: SourceFile, source: SourceConfig, split_bytes: int) -> Iterator[Range]:
    yield 0, None


def _read_jsonl(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Rows:
    return read_objects(read_split_lines(split, max_row_bytes), max_row_bytes)


def _read_chats(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Rows:
    converter, stem = CONVERTERS[split.reader], make_id_stem(split, source)

    def convert(value: dict[str, Any], line: int) -> tuple[dict[str, Any], tuple[str, ...]]:
        return converter(value, source.format, make_row_id(stem, line))

    return read_objects(read_split_lines(split, max_row_bytes), max_row_bytes, convert)


def _read_acos(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Rows:
    """Yield what `python -m voc import acos` makes of every line, with the same ids; a blank line is refused as there."""
    stem = make_id_stem(split, source)
    for line in read_split_lines(split, max_row_bytes):
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


FORMATS: dict[str, SourceFormat] = {
    "jsonl": SourceFormat(_read_jsonl, _cut_bytes, suffixes=(".jsonl",), auto_suffix=".jsonl"),
    "converse": SourceFormat(_read_chats, _cut_chats, suffixes=(".jsonl",)),
    "openai": SourceFormat(_read_chats, _cut_chats, suffixes=(".jsonl",)),
    "csv": SourceFormat(read_csv, _keep_whole, suffixes=(".csv", ".tsv"), auto_suffix=".csv", has_columns=True),
    "parquet": SourceFormat(
        read_parquet,
        _cut_row_groups,
        suffixes=(".parquet",),
        auto_suffix=".parquet",
        can_be_packed=False,
        has_columns=True,
    ),
    "datasets": SourceFormat(
        read_dataset, _keep_whole, has_columns=True
    ),  # no files: `corpus.sources.splits` cuts its rows
    "acos": SourceFormat(_read_acos, _keep_whole, suffixes=(".tsv",), auto_suffix=".tsv"),
}
