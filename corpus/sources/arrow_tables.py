"""Tables in Arrow's memory: Parquet files, data sets of the Hugging Face hub, and folders that `datasets.save_to_disk` wrote.

Only the needed columns of a Parquet file are read, row group by row group and page by page. A hub address is `owner/name`,
`owner/name/configuration`, each also with `@revision` (a pinned commit is the only one that is the same data tomorrow). Nothing
from a data set is executed. It lies on disk and is read in ranges of rows.

Source: https://huggingface.co/docs/datasets/loading
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.sources.columns import plan_columns, shape_row
from corpus.sources.rows import make_uri, open_file
from voc.errors import DataError
from voc.records.lines import HEAD_BYTES, RAW_CHARS, RawRow
from voc.records.refusals import Rejection, RowError
from voc.store.uri import open_store

if TYPE_CHECKING:
    from corpus.sources.rows import InputSplit
    from voc.config.data import SourceConfig

# Arrow reads a column in pieces of this size, so a row group of gigabytes does not lie in memory.
BUFFER_BYTES = 1 << 20
# What a damaged file can raise. Errors of the store are none of these: they end the reading.
_DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError, TypeError)
_MARKS = ("dataset_dict.json", "state.json")
BATCH_ROWS = 256
BATCH_BYTES = 16 << 20
# What converting a cell can raise: damaged text, a time that Python cannot hold, an unknown time zone.
_CELL_ERRORS = (ValueError, OverflowError, LookupError, TypeError, ImportError, pa.ArrowException)


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
            yield Rejection(1, "damaged_file", f"{split.uri} is not a whole Parquet file: {error}", "")
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


def resolve_dataset(uri: str) -> str:
    """Return the address that every process understands: an absolute folder, or the hub's id."""
    is_path = uri.startswith(("/", ".", "file://", "s3://")) or Path(uri).is_dir()
    return make_uri(open_store(uri), "") if is_path else uri


def measure_dataset(uri: str, split_name: str) -> tuple[int, int, str]:
    """Return how many rows a split of a data set has, how many bytes, and its fingerprint.

    Raises:
        DataError: If it cannot be opened.
    """
    dataset = _open_dataset(uri, split_name)
    return len(dataset), dataset.data.nbytes, dataset._fingerprint


def read_dataset(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Iterator[RawRow | Rejection]:
    """Yield a range of rows.

    Raises:
        DataError: If the data set cannot be opened or lacks a column.
    """
    dataset = _open_dataset(split.uri, source.split)
    fields = plan_columns(source, dataset.column_names, split.uri)
    table = dataset.select_columns(list(fields.values())).with_format("arrow")
    end = len(dataset) if split.end is None else split.end
    line = 1
    for start in range(split.start, min(end, len(dataset)), BATCH_ROWS):
        for batch in table[start : min(start + BATCH_ROWS, end)].to_batches():
            yield from read_batch(batch, fields, first_line=line, max_row_bytes=max_row_bytes)
            line += batch.num_rows
    if end > len(dataset):
        detail = f"{split.uri} has {len(dataset)} rows, it had {end} or more when it was listed"
        yield Rejection(line, "truncated_file", detail, "")


@lru_cache(maxsize=4)
def _open_dataset(uri: str, split_name: str) -> Any:
    """Open a split; a process that reads many ranges opens it once."""
    from datasets import DatasetDict, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    try:
        if not uri.startswith(("/", "s3://")):
            address, _, revision = uri.partition("@")
            name, configuration = "/".join(address.split("/")[:2]), "/".join(address.split("/")[2:])
            return load_dataset(name, configuration or None, split=split_name, revision=revision or None)
        if not any((Path(uri) / mark).is_file() for mark in _MARKS):
            raise DataError(
                f"{uri} is not a directory of a saved data set",
                expected=f"a hub id, or a local directory with {' or '.join(_MARKS)}",
                remedy="leave reader at auto for a folder or prefix of files",
            )
        found = load_from_disk(uri)
    except (DatasetsError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise DataError(
            f"the data set {uri} (split {split_name}) cannot be opened: {error}",
            expected="a hub id that this machine can reach or has in its cache, or a folder of save_to_disk",
            remedy="check uri and split, the network and HF_HUB_OFFLINE",
        ) from error
    if not isinstance(found, DatasetDict):
        return found
    if split_name not in found:
        raise DataError(
            f"the data set {uri} has no split {split_name!r}", expected=f"one of {', '.join(map(str, found))}"
        )
    return found[split_name]


@dataclass(frozen=True, slots=True)
class _DamagedCell:
    """A cell that is not a Python value: why, and how it can be shown."""

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
