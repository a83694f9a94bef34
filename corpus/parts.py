"""The accepted rows on disk: Parquet part files in which a row is named by its source and its number there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from voc.errors import DataError

_BATCH_ROWS = 2048


@dataclass(frozen=True, slots=True)
class PartFile:
    """One part of a source.

    Attributes:
        source: Name of the source.
        path: The Parquet file, on this machine's disk or a shared one.
        first_row: Number of its first row, counted over the parts of the source.
        num_rows: How many rows it has.
        is_test: True if the source is the held-out test set.
    """

    source: str
    path: str
    first_row: int
    num_rows: int
    is_test: bool = False


def read_batches(part: PartFile, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (row number of its first row, batch) in file order, in bounded memory.

    Raises:
        DataError: If the file does not hold as many rows as its part says.
    """
    row = part.first_row
    with pq.ParquetFile(part.path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
            yield row, batch
            row += batch.num_rows
    if row - part.first_row != part.num_rows:
        raise DataError(
            f"{part.path} holds {row - part.first_row} rows",
            expected=f"{part.num_rows}, as it was written",
            remedy="start the stage again; it writes its part files anew",
        )


def read_cells(
    parts: Iterable[PartFile], rows: Mapping[str, Iterable[int]], columns: Sequence[str]
) -> dict[tuple[str, int], dict[str, str]]:
    """Read a few cells, only from the row groups that hold them.

    Args:
        parts: The part files of all sources.
        rows: Row numbers per source.
        columns: Names of string columns.

    Returns:
        The columns of each row by (source, row number).
    """
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for part in parts:
        wanted = sorted({int(r) for r in rows.get(part.source, ()) if 0 <= r - part.first_row < part.num_rows})
        if wanted:
            cells |= _read_part_cells(part, wanted, columns)
    return cells


def _read_part_cells(
    part: PartFile, rows: Sequence[int], columns: Sequence[str]
) -> dict[tuple[str, int], dict[str, str]]:
    cells: dict[tuple[str, int], dict[str, str]] = {}
    with pq.ParquetFile(part.path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        starts = part.first_row + np.concatenate([[0], np.cumsum(sizes)])
        for group in range(len(sizes)):
            inside = [row for row in rows if starts[group] <= row < starts[group + 1]]
            if not inside:
                continue
            table = file.read_row_group(group, columns=list(columns)).take([row - starts[group] for row in inside])
            cells |= {(part.source, row): cell for row, cell in zip(inside, table.to_pylist(), strict=True)}
    return cells
