"""Rows of an Arrow batch: what Parquet files and data sets have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from corpus.readers.columns import shape_row
from corpus.readers.lines import HEAD_BYTES, RAW_CHARS
from corpus.rows import RawRow
from voc.records.refusals import Rejection, RowError

BATCH_ROWS = 256
BATCH_BYTES = 16 << 20
# What converting a cell can raise: damaged text, a time that Python cannot hold, an unknown time zone.
_CELL_ERRORS = (ValueError, OverflowError, LookupError, TypeError, ImportError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class _DamagedCell:
    """A cell that is no Python value: why, and how it can be shown."""

    error: RowError
    shown: str


def choose_batch_rows(num_rows: int, size_bytes: int) -> int:
    """Return how many rows are converted at once, so that large rows do not fill the memory."""
    return max(1, min(BATCH_ROWS, BATCH_BYTES * max(num_rows, 1) // max(size_bytes, 1)))


def read_batch(
    batch: pa.RecordBatch, fields: Mapping[str, str], *, first_line: int, max_row_bytes: int
) -> Iterator[RawRow | Rejection]:
    """Yield the rows of a batch.

    Args:
        batch: The columns that `fields` names, at least.
        fields: Field: column.
        first_line: Number of the batch's first row.
        max_row_bytes: Longest row, as JSON.
    """
    columns = {field: _read_cells(batch.column(column)) for field, column in fields.items()}
    for index in range(batch.num_rows):
        cells = {field: column[index] for field, column in columns.items()}
        yield _read_row(cells, first_line + index, max_row_bytes)


def _read_row(cells: dict[str, Any], line: int, max_row_bytes: int) -> RawRow | Rejection:
    damage = next((cell for cell in cells.values() if isinstance(cell, _DamagedCell)), None)
    raw = json.dumps(cells, ensure_ascii=False, default=_show_cell)
    if len(raw) > max_row_bytes or len(raw.encode(errors="replace")) > max_row_bytes:
        detail = (
            f"the row has {len(raw)} characters as JSON, expected at most {max_row_bytes} bytes (data.max_row_bytes)"
        )
        return Rejection(line, "row_too_large", detail, raw[:HEAD_BYTES])
    try:
        if damage is not None:
            raise damage.error
        return RawRow(shape_row(cells), line, raw[:RAW_CHARS])
    except RowError as error:
        return Rejection(line, error.reason, error.detail, raw[:RAW_CHARS])


def _read_cells(column: pa.Array) -> list[Any]:
    """Return the cells as Python values; a cell that cannot be one says why."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)  # Python's times have no nanoseconds
    try:
        return list(column.to_pylist())
    except _CELL_ERRORS:
        return [_read_cell(column, index) for index in range(len(column))]


def _read_cell(column: pa.Array, index: int) -> Any:
    try:
        return column[index].as_py()
    except UnicodeDecodeError as error:
        shown = error.object[:RAW_CHARS].decode("utf-8", "backslashreplace")
        return _DamagedCell(RowError("encoding", f"not UTF-8: {error.reason} at byte {error.start} of a cell"), shown)
    except _CELL_ERRORS as error:
        return _DamagedCell(RowError("schema", f"a cell of type {column.type} cannot be read: {error}"), "")


def _show_cell(cell: object) -> str:
    if isinstance(cell, _DamagedCell):
        return cell.shown
    return cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)
