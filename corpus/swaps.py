"""Exchange drawn rows for undrawn ones until the drawn tokens are an exact number.

A swap changes the sum by the difference of two lengths. One swap of the right difference is looked for first, then two,
else the swap that comes nearest is made and the search goes on. Only which lengths there are matters, not how many rows, so
a stratum of millions of rows costs as much as its longest row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

MAX_SWAPS = 16
_MAX_TRIES = 32


@dataclass(frozen=True, slots=True)
class Swaps:
    """Rows to exchange.

    Attributes:
        pairs: Index of the drawn row and of the undrawn row that takes its place; no row is in two pairs.
        remainder: Tokens that are still missing (negative: too many).
    """

    pairs: tuple[tuple[int, int], ...]
    remainder: int


def find_swaps(drawn: IntArray, undrawn: IntArray, wanted: int) -> Swaps:
    """Look for swaps that change the sum of the drawn lengths by `wanted`.

    All single swaps are tried, many pairs of swaps, and no more than `MAX_SWAPS` in all, so a remainder means that the rows
    do not permit it or only by a longer chain.

    Args:
        drawn: [n] lengths of the drawn rows, 0 or more.
        undrawn: [m] lengths of the rows that are not drawn.
        wanted: Tokens to add; negative: to take away.
    """
    if not (wanted and drawn.size and undrawn.size):
        return Swaps((), wanted)
    search = _Search(*_count_lengths(drawn, undrawn))
    remainder = wanted
    while remainder and len(search.chosen) < MAX_SWAPS:
        if search.take(remainder) or (len(search.chosen) + 1 < MAX_SWAPS and search.take_two(remainder)):
            remainder = 0
        else:
            step = search.find_nearest(remainder)
            if abs(remainder - step) >= abs(remainder):
                break
            search.take(step)
            remainder -= step
    return Swaps(_name_rows(search.chosen, drawn, undrawn), remainder)


@dataclass(slots=True)
class _Search:
    """Rows left to swap, by length: `have[l]` drawn ones, `spare[l]` undrawn ones; and the lengths swapped so far."""

    have: IntArray
    spare: IntArray
    chosen: list[tuple[int, int]] = field(default_factory=list)

    def take(self, difference: int) -> bool:
        """Make one swap of this difference, if there is one."""
        longest = len(self.have) - 1
        if abs(difference) > longest:
            return False
        low, high = max(0, -difference), min(longest, longest - difference) + 1
        found = (self.have[low:high] > 0) & (self.spare[low + difference : high + difference] > 0)
        if not found.any():
            return False
        length = low + int(found.argmax())
        self.have[length] -= 1
        self.spare[length + difference] -= 1
        self.chosen.append((length, length + difference))
        return True

    def take_two(self, difference: int) -> bool:
        """Make two swaps of this difference together, if they are found."""
        longest = len(self.have) - 1
        if abs(difference) > 2 * longest:
            return False
        reach = self._reach()
        first = np.arange(max(-longest, difference - longest), min(longest, difference + longest) + 1)
        first = first[reach[first + longest] & reach[difference - first + longest]]
        for step in first[np.argsort(np.abs(first), kind="stable")][:_MAX_TRIES].tolist():
            if self.take(step):
                if self.take(difference - step):
                    return True
                self._put_back()
        return False

    def find_nearest(self, difference: int) -> int:
        """Return the difference of the one swap that comes nearest; 0 if none is left."""
        possible = np.flatnonzero(self._reach()) - (len(self.have) - 1)
        return int(possible[np.abs(possible - difference).argmin()]) if possible.size else 0

    def _reach(self) -> npt.NDArray[np.bool_]:
        """Return [2 * longest + 1] whether there is a swap of each difference, from -longest."""
        size = len(self.have)
        reach = np.zeros(2 * size - 1, dtype=bool)
        have, spare = np.flatnonzero(self.have > 0), np.flatnonzero(self.spare > 0)
        if len(have) <= len(spare):
            available = self.spare > 0
            for length in have.tolist():
                reach[size - 1 - length : 2 * size - 1 - length] |= available
        else:
            available = (self.have > 0)[::-1]
            for length in spare.tolist():
                reach[length : length + size] |= available
        return reach

    def _put_back(self) -> None:
        drawn, undrawn = self.chosen.pop()
        self.have[drawn] += 1
        self.spare[undrawn] += 1


def _count_lengths(drawn: IntArray, undrawn: IntArray) -> tuple[IntArray, IntArray]:
    size = int(max(drawn.max(), undrawn.max())) + 1
    return np.bincount(drawn, minlength=size), np.bincount(undrawn, minlength=size)


def _name_rows(chosen: list[tuple[int, int]], drawn: IntArray, undrawn: IntArray) -> tuple[tuple[int, int], ...]:
    """Choose rows of the swapped lengths, the first of each length first."""
    sides = []
    for lengths, wanted in ((drawn, [pair[0] for pair in chosen]), (undrawn, [pair[1] for pair in chosen])):
        rows = {length: iter(np.flatnonzero(lengths == length).tolist()) for length in set(wanted)}
        sides.append([next(rows[length]) for length in wanted])
    return tuple(zip(*sides, strict=True))
