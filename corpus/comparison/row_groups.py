"""Equal rows among arrays of hashes, and what they mean: duplicates, label conflicts, leakage.

Row numbers here count over all sources in their order (`RowTable`); N is their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corpus.comparison.signatures import ROW, SignatureTask
from corpus.parts import PartFile
from voc.errors import DataError


@dataclass(frozen=True, slots=True)
class RowTable:
    """The hashes of all rows, the sources one after the other.

    Attributes:
        sources: Their names, in order.
        bounds: Where each begins, and the end of the last: one more than there are sources.
        rows: `corpus.comparison.signatures.ROW` of each row.
        is_test: True for the rows of the test set.
    """

    sources: tuple[str, ...]
    bounds: np.ndarray
    rows: np.ndarray
    is_test: np.ndarray

    @property
    def source_numbers(self) -> np.ndarray:
        """The number of each row's source."""
        return np.repeat(np.arange(len(self.sources)), np.diff(self.bounds))

    @property
    def slices(self) -> dict[str, slice]:
        """The rows of each source."""
        return {name: slice(*self.bounds[i : i + 2].tolist()) for i, name in enumerate(self.sources)}

    def name_row(self, row: int) -> tuple[str, int]:
        """Return the source of a row and its number there."""
        source = int(np.searchsorted(self.bounds, row, side="right")) - 1
        return self.sources[source], int(row - self.bounds[source])


def order_parts(parts: Sequence[PartFile]) -> list[PartFile]:
    """Sort the parts by source (in the order in which the sources appear) and row.

    Raises:
        DataError: If the parts of a source leave a gap or overlap, so that its rows would get wrong numbers.
    """
    places = {name: place for place, name in enumerate(dict.fromkeys(part.source for part in parts))}
    ordered = sorted(parts, key=lambda part: (places[part.source], part.first_row, part.num_rows))
    next_row = dict.fromkeys(places, 0)
    for part in ordered:
        if part.first_row != next_row[part.source]:
            raise DataError(
                f"{part.path} begins with row {part.first_row} of {part.source}",
                expected=f"row {next_row[part.source]}, the one after the part before it",
                remedy="list every part of the source once",
            )
        next_row[part.source] += part.num_rows
    return ordered


def read_table(tasks: Sequence[SignatureTask]) -> RowTable:
    """Read what the tasks wrote, in the order of their parts."""
    sources = tuple(dict.fromkeys(task.part.source for task in tasks))
    sizes = [sum(task.part.num_rows for task in tasks if task.part.source == source) for source in sources]
    rows = np.zeros(sum(sizes), dtype=ROW)
    is_test = np.zeros(len(rows), dtype=bool)
    begin = 0
    for task in tasks:
        end = begin + task.part.num_rows
        rows[begin:end] = np.load(Path(task.path("rows.npy")))
        is_test[begin:end] = task.part.is_test
        begin = end
    return RowTable(sources, np.cumsum([0, *sizes]), rows, is_test)


def find_first_equal(*columns: np.ndarray) -> np.ndarray:
    """Return for each row the first row that is equal in all columns: itself, if there is none before it."""
    order = np.lexsort(columns)
    is_new = np.ones(len(order), dtype=bool)
    for place, column in enumerate(columns):
        ordered = column[order]
        differs = ordered[1:] != ordered[:-1]
        is_new[1:] = differs if place == 0 else is_new[1:] | differs
    first = np.empty(len(order), dtype=np.int64)
    # lexsort is stable, so a run of equal rows begins with the first of them.
    first[order] = order[is_new][np.cumsum(is_new) - 1]
    return first


def find_first_equal_among(chosen: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Return `find_first_equal` among the chosen rows (a mask); each other row stands for itself."""
    first = np.arange(len(chosen))
    rows = np.flatnonzero(chosen)
    first[rows] = rows[find_first_equal(*(column[rows] for column in columns))]
    return first


def is_repeated(first: np.ndarray) -> np.ndarray:
    """Tell which rows have an equal one before them."""
    return first != np.arange(len(first))


def find_conflicts(texts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Tell which rows have the text of another row but other labels; rows without labels (0) are not compared.

    Args:
        texts: The first row of each row's text (N).
        labels: Hashes (N).
    """
    labelled = labels != 0
    reference = find_first_equal_among(labelled, texts)
    disagrees = np.zeros(len(texts), dtype=bool)
    disagrees[reference[labelled & (labels != labels[reference])]] = True
    return labelled & disagrees[reference]
