"""Part files of made-up rows, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.parts.part_files import PartFile


def write_parts(
    folder: Path,
    source: str,
    texts: Sequence[str],
    *,
    labels: Sequence[str] | str = "",
    ids: Sequence[str] | None = None,
    part_rows: int = 1000,
    is_test: bool = False,
) -> list[PartFile]:
    """Write the rows as parts of at most `part_rows` rows."""
    every_label = [labels] * len(texts) if isinstance(labels, str) else list(labels)
    every_id = [""] * len(texts) if ids is None else list(ids)
    parts = []
    for first in range(0, len(texts), part_rows):
        rows = slice(first, first + part_rows)
        table = pa.table({"id": every_id[rows], "text": list(texts[rows]), "labels": every_label[rows]})
        path = folder / source / f"part-{len(parts):05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=7)
        parts.append(PartFile(source, str(path), first, table.num_rows, is_test))
    return parts


def map_in_order(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterable[Any]:
    """Run the tasks in this process, one after the other."""
    return map(function, arguments)


def map_backwards(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterable[Any]:
    """Run the last task first."""
    return map(function, reversed(arguments))
