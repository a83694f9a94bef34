"""The ids of accepted rows of a prepared run, by source and row number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow.parquet as pq

from corpus.file_places import StoredFile, localise
from corpus.parts import PartFile, read_cells
from voc.store.base import Store
from voc.store.manifest import Manifest


def read_row_ids(
    store: Store, prefix: str, data: Manifest, rows: Mapping[str, Iterable[int]]
) -> dict[tuple[str, int], str]:
    """Return the ids of some rows; general rows have empty ones.

    Args:
        store: The store.
        prefix: The run's data directory.
        data: Its manifest.
        rows: Row numbers per source, from 0.
    """
    parts = [part for source in rows for part in _list_parts(store, prefix, data, source)]
    return {place: cell["id"] for place, cell in read_cells(parts, rows, ("id",)).items()}


def _list_parts(store: Store, prefix: str, data: Manifest, source: str) -> list[PartFile]:
    parts, first_row = [], 0
    for entry in data.files:  # sorted, and so in the order of the parts
        if entry.path.startswith(f"rows/{source}/"):
            path = localise(StoredFile(store.uri, prefix, entry))
            num_rows = pq.read_metadata(path).num_rows
            parts.append(PartFile(source, str(path), first_row, num_rows))
            first_row += num_rows
    return parts
