"""Which samples share a row: best-fit-decreasing over windows of the training order.

A sample goes, longest first, into the open row with the least free space that still holds it. Open rows are kept by their
free space and found with a bit mask, so a window costs O(samples * row_len / 64) at worst and far less in practice.
Samples are never cut: one that is longer than a row is left out and named.

Source: best-fit-decreasing bin packing, Johnson, "Near-optimal bin packing algorithms", 1973; for training rows, Ding et al.,
"Fewer Truncations Improve Language Modeling", 2024.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.ground.results import PackingFigures
from corpus.mixing.order import derive_key, permute

IntArray = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.integer[Any]]

DEFAULT_WINDOW = 16_384


@dataclass(frozen=True, slots=True)
class PackingPlan:
    """Rows of samples.

    Attributes:
        row_len: Tokens of a row.
        row_of: [samples] int32 number of the row that a sample is in, or -1 for one that is longer than a row.
        num_rows: Rows, none empty.
        num_tokens: Tokens of the packed samples.
        too_long: Indices of the samples that are left out.
    """

    row_len: int
    row_of: npt.NDArray[np.int32]
    num_rows: int
    num_tokens: int
    too_long: IntArray

    @property
    def efficiency(self) -> float:
        """Share of the rows' places that hold a token; 0 without rows."""
        return self.num_tokens / (self.num_rows * self.row_len) if self.num_rows else 0.0

    def to_json(self) -> PackingFigures:
        """Return the figures that the data report shows."""
        return {"rows": self.num_rows, "efficiency": self.efficiency, "too_long": len(self.too_long)}


def plan_packing(lengths: Lengths, row_len: int, *, window: int = DEFAULT_WINDOW, seed: int = 0) -> PackingPlan:
    """Put samples into rows.

    Each window of consecutive samples is packed by itself, so a row holds samples that are near each other in the training
    order, and rows of a later window come later. Inside a window rows are shuffled: packing makes rows of long samples
    first, and lengths must not go up and down with time.

    Args:
        lengths: [samples] tokens of each sample, in training order.
        row_len: Tokens of a row.
        window: Samples that are packed together.
        seed: Seed of the order of rows inside a window.

    Raises:
        ValueError: If a length, the row length or the window is below 1.
    """
    _check(lengths, row_len, window)
    row_of = np.full(len(lengths), -1, dtype=np.int32)
    num_rows = 0
    for number, start in enumerate(range(0, len(lengths), window)):
        part = lengths[start : start + window]
        kept = start + np.flatnonzero(part <= row_len)
        rows, count = pack_window(lengths[kept], row_len)
        if count:
            shuffled = permute(np.arange(count), count, derive_key(seed, "packing", number))
            row_of[kept] = num_rows + shuffled[rows]
            num_rows += count
    fits = row_of >= 0
    num_tokens = int(lengths[fits].sum(dtype=np.int64))
    return PackingPlan(row_len, row_of, num_rows, num_tokens, np.flatnonzero(~fits))


def pack_window(lengths: Lengths, row_len: int) -> tuple[IntArray, int]:
    """Put samples into rows by best-fit-decreasing; of equal lengths the earlier sample is placed first.

    Args:
        lengths: [n] tokens of each sample, 1 to `row_len`.
        row_len: Tokens of a row.

    Returns:
        [n] the row of each sample, and the number of rows.

    Raises:
        ValueError: If a length is out of range.
    """
    if len(lengths) and not (lengths.min() >= 1 and lengths.max() <= row_len):
        raise ValueError(f"samples have {lengths.min()} to {lengths.max()} tokens, a row holds 1 to {row_len}")
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    sizes, counts = np.unique(lengths, return_counts=True)
    placed: list[int] = []
    for row, times in _place(zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True), row_len):
        placed += [row] * times
    row_of = np.empty(len(order), dtype=np.int64)
    row_of[order] = placed
    return row_of, 1 + max(placed, default=-1)


def _place(sizes: Iterable[tuple[int, int]], row_len: int) -> Iterator[tuple[int, int]]:
    """Yield (row, how many) for samples of falling size.

    The row that fits best goes on being the one that fits best while it has room for another sample of that size, so it
    takes all that it can hold at once.
    """
    rows_with: list[list[int]] = [[] for _ in range(row_len + 1)]
    open_spaces = 0
    num_rows = 0
    for size, count in sizes:
        remaining = count
        while remaining:
            spaces = open_spaces >> size
            if spaces:
                space = size + (spaces & -spaces).bit_length() - 1
                row = rows_with[space].pop()
                if not rows_with[space]:
                    open_spaces ^= 1 << space
            else:
                row, space = num_rows, row_len
                num_rows += 1
            times = min(remaining, space // size)
            remaining -= times
            space -= times * size
            rows_with[space].append(row)
            open_spaces |= 1 << space
            yield row, times


def _check(lengths: Lengths, row_len: int, window: int) -> None:
    if row_len < 1 or window < 1:
        raise ValueError(f"row_len is {row_len} and window {window}, expected at least 1")
    if len(lengths) and lengths.min() < 1:
        raise ValueError(f"sample {int(lengths.argmin())} has {lengths.min()} tokens, expected at least 1")
