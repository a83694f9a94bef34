"""Parquet files, row group by row group. Only the needed columns are read, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.readers.addresses import open_file
from corpus.readers.arrow_rows import choose_batch_rows, read_batch
from corpus.readers.columns import plan_columns
from voc.records.refusals import Rejection

if TYPE_CHECKING:
    from corpus.rows import InputSplit, RawRow
    from voc.config.data import SourceConfig

# Arrow reads a column in pieces of this size, so a row group of gigabytes does not lie in memory.
BUFFER_BYTES = 1 << 20
# What a damaged file can raise. Errors of the store are none of these: they end the reading.
_DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError, TypeError)


def list_row_groups(uri: str) -> list[int]:
    """Return the size of each row group in bytes, from the footer; an empty list if the footer cannot be read."""
    with open_file(uri) as stream:
        try:
            metadata = pq.ParquetFile(stream).metadata
            return [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
        except _DAMAGE:
            return []


def read_parquet(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Iterator[RawRow | Rejection]:
    """Yield the rows of some row groups; each damaged one becomes one refusal that says how many rows it had.

    Raises:
        DataError: If a column is missing.
    """
    with open_file(split.uri) as stream:
        try:
            file = pq.ParquetFile(stream, buffer_size=BUFFER_BYTES, pre_buffer=False)
            names, num_row_groups = file.schema_arrow.names, file.metadata.num_row_groups
        except _DAMAGE as error:
            yield Rejection(1, "damaged_file", f"{split.uri} is no whole Parquet file: {error}", "")
            return
        fields = plan_columns(source, names, split.uri)
        end, line = num_row_groups if split.end is None else split.end, 1
        for index in range(split.start, min(end, num_row_groups)):
            for item in _read_row_group(file, index, fields, line, max_row_bytes):
                yield item
                line = item.line + 1
        if end > num_row_groups:
            detail = f"{split.uri} has {num_row_groups} row groups, it had {end} or more when it was listed"
            yield Rejection(line, "truncated_file", detail, "")


def _read_row_group(
    file: pq.ParquetFile, index: int, fields: dict[str, str], first_line: int, max_row_bytes: int
) -> Iterator[RawRow | Rejection]:
    num_rows, num_read, problem = 0, 0, ""
    try:
        num_rows = file.metadata.row_group(index).num_rows
    except _DAMAGE as error:
        problem = str(error)
    for batch in _read_batches(file, index, list(fields.values())):
        if isinstance(batch, str):
            problem = batch
            break
        yield from read_batch(batch, fields, first_line=first_line + num_read, max_row_bytes=max_row_bytes)
        num_read += batch.num_rows
    if problem or num_read != num_rows:
        lost = f"{num_rows - num_read} of {num_rows} rows of row group {index} cannot be read"
        yield Rejection(first_line + num_read, "damaged_file", f"{lost}: {problem or 'they are not there'}", "")


def _read_batches(file: pq.ParquetFile, index: int, columns: list[str]) -> Iterator[pa.RecordBatch | str]:
    """Yield the batches of a row group; if it is damaged, what Arrow says comes last."""
    try:
        group = file.metadata.row_group(index)
        yield from file.iter_batches(
            batch_size=choose_batch_rows(group.num_rows, group.total_byte_size),
            row_groups=[index],
            columns=columns,
            use_threads=False,
        )
    except _DAMAGE as error:
        yield str(error) or type(error).__name__
