"""What an arm draws from prepared rows, weights counted in samples, in tokens or in assistant tokens.

Of N rows, each stratum gives so many that its tokens come nearest to its share of all tokens drawn; then a few drawn rows of
the last epoch are swapped for undrawn ones so that the shares are exact to one token. What remains is reported per stratum.

Method: a stratum's tokens after c draws are whole epochs (closed form) plus a cumulative sum over the last one, so the
number of draws that comes nearest to a share of T tokens is a binary search, and it grows with T: bisect T for N draws. A swap
changes the sum by the difference of two lengths: one swap of the right difference is looked for first, then two, else the swap
that comes nearest is made and the search goes on. Only which lengths there are matters, not how many rows, so a stratum of
millions of rows costs as much as its longest row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from corpus.mixing.order import derive_epoch_keys, locate_draws, permute
from corpus.parts.source_rows import Counts, IntArray, SourceRows
from voc.errors import MixtureError
from voc.mixture import (
    MixturePlan,
    Stratum,
    StratumShare,
    Unit,
    WeightedSource,
    apportion,
    check_weights,
    compute_shares,
    count_rows,
    plan_mixture,
)

_NEIGHBOURS = (0, 1, -1, 2, -2, 3, -3)
MAX_SWAPS = 16
_MAX_TRIES = 32


def plan_draw(
    rows: Mapping[str, SourceRows], sources: Sequence[WeightedSource], *, unit: Unit, num_samples: int, seed: int
) -> MixturePlan:
    """Decide how many rows each stratum gives to one training run, and count their tokens.

    In every unit, no row of a stratum appears more than one time more than another: with weights in tokens that goes before
    exact shares, and what is missing is in `residual_tokens`.

    Args:
        rows: Usable rows per source.
        sources: Weights; only ratios matter, at each level.
        unit: What the weights count.
        num_samples: Rows of the final mixture, repeats included.
        seed: Seed of selection and order.

    Raises:
        MixtureError: As `voc.mixture.plan_mixture`, or if a stratum has no tokens to weigh.
    """
    num_rows = _count_strata(rows)
    if unit == "samples":
        plan = plan_mixture(num_rows, sources, num_samples=num_samples, seed=seed)
    else:
        check_weights(sources, num_rows, num_samples)
        figures = {stratum: _get_figure(rows, stratum, unit) for stratum in compute_shares(sources)}
        plan = plan_token_draw(figures, sources, unit=unit, num_samples=num_samples, seed=seed)
    counted = tuple(
        replace(
            share,
            num_tokens=sum_drawn(share, seed, _get_figure(rows, share.stratum, "tokens")),
            num_assistant_tokens=sum_drawn(share, seed, _get_figure(rows, share.stratum, "assistant_tokens")),
        )
        for share in plan.shares
    )
    return replace(plan, shares=counted)


def plan_token_draw(
    lengths: Mapping[Stratum, Counts], sources: Sequence[WeightedSource], *, unit: Unit, num_samples: int, seed: int
) -> MixturePlan:
    """Decide the same from what the weights count alone: `lengths` are the tokens or assistant tokens of every row.

    Raises:
        MixtureError: As `plan_draw`.
    """
    num_rows = {stratum: len(array) for stratum, array in lengths.items()}
    check_weights(sources, num_rows, num_samples)
    pools = [
        _Pool(StratumShare(*stratum, float(exact), count_rows(num_rows, stratum), 0), exact, lengths[stratum], seed)
        for stratum, exact in compute_shares(sources).items()
    ]
    for pool in pools:
        if not pool.total:
            raise MixtureError(
                f"the rows of '{pool.share.stratum}' have no {unit.replace('_', ' ')}",
                expected=f"at least one, since the arm's weights count {unit.replace('_', ' ')}",
                remedy="count the arm's weights in samples, or leave it out of the arm",
            )
    counts, total = _choose_counts(pools, num_samples)
    draws = [pool.cut(count) for pool, count in zip(pools, counts, strict=True)]
    swaps = _choose_swaps(pools, draws, sources, total)
    tokens = {pool.share.stratum: draw.tokens + made for pool, draw, (_, made) in zip(pools, draws, swaps, strict=True)}
    exact_tokens = apportion(sources, sum(tokens.values()))
    shares = tuple(
        replace(
            pool.share,
            num_samples=count,
            residual_tokens=tokens[pool.share.stratum] - exact_tokens[pool.share.stratum],
            swaps=tuple((drawn, len(draw.drawn) + undrawn) for drawn, undrawn in found.pairs),
        )
        for pool, count, draw, (found, _) in zip(pools, counts, draws, swaps, strict=True)
    )
    return MixturePlan(unit, num_samples, seed, shares)


def sum_drawn(share: StratumShare, seed: int, values: Counts) -> int:
    """Return the sum of a figure over all draws of a stratum, repeats included.

    Args:
        share: What is drawn.
        seed: The plan's seed.
        values: [rows of the stratum] the figure of each row.
    """
    whole_epochs, partial = divmod(share.num_samples, share.num_rows)
    draws = np.arange(share.num_samples - partial, share.num_samples, dtype=np.int64)
    last = values[locate_draws(share, seed, draws)]
    return whole_epochs * int(values.sum(dtype=np.int64)) + int(last.sum(dtype=np.int64))


@dataclass(frozen=True, slots=True)
class _Draw:
    """The first draws of a stratum: lengths of what the last, unfinished epoch draws and does not draw, and all tokens."""

    drawn: IntArray
    undrawn: IntArray
    tokens: int


class _Pool:
    """One stratum's rows in the order of their draws."""

    def __init__(self, share: StratumShare, exact: Fraction, lengths: Counts, seed: int) -> None:
        self.share = share
        self.exact = exact
        self.total = int(lengths.sum(dtype=np.int64))
        self.longest = int(lengths.max())
        self._lengths = lengths
        self._seed = seed
        self._sums: tuple[int, IntArray] = (-1, np.empty(0, dtype=np.int64))

    def count_epochs(self, total: int) -> int:
        """Return the whole epochs inside the stratum's share of a total."""
        return math.floor(self.exact * total) // self.total

    def count_nearest(self, total: int) -> int:
        """Return after how many draws the tokens are nearest to the stratum's share of a total; grows with it."""
        epochs, rest = divmod(math.floor(self.exact * total), self.total)
        sums = self._sum_epoch(epochs)
        place = int(np.searchsorted(sums, rest))
        if place and rest - sums[place - 1] <= sums[place] - rest:
            place -= 1
        return epochs * self.share.num_rows + place

    def cut(self, count: int) -> _Draw:
        """Return the first draws."""
        epochs, place = divmod(count, self.share.num_rows)
        lengths = np.diff(self._sum_epoch(epochs))
        drawn = lengths[:place]
        return _Draw(drawn, lengths[place:] if place else lengths[:0], epochs * self.total + int(drawn.sum()))

    def _sum_epoch(self, number: int) -> IntArray:
        """Return [rows + 1] tokens before each draw of an epoch and after the last; the latest epoch is kept."""
        if self._sums[0] != number:
            num_rows = self.share.num_rows
            key = derive_epoch_keys(self.share, self._seed, np.array([number]))
            sums = np.zeros(num_rows + 1, dtype=np.int64)
            np.cumsum(self._lengths[permute(np.arange(num_rows), num_rows, key)], dtype=np.int64, out=sums[1:])
            self._sums = (number, sums)
        return self._sums[1]


def _choose_counts(pools: Sequence[_Pool], num_samples: int) -> tuple[list[int], int]:
    """Return draws per stratum that sum to `num_samples`, and the total of tokens whose shares they are nearest to."""
    low, high = 0, (num_samples + 2 * len(pools) + 1) * max(pool.longest for pool in pools)
    while high - low > 1:
        middle = (low + high) // 2
        whole = sum(pool.count_epochs(middle) * pool.share.num_rows for pool in pools)
        if whole >= num_samples:
            high = middle
        elif whole + sum(pool.share.num_rows for pool in pools) < num_samples:
            low = middle
        elif sum(pool.count_nearest(middle) for pool in pools) >= num_samples:
            high = middle
        else:
            low = middle
    counts = [pool.count_nearest(low) for pool in pools]
    for index, pool in enumerate(pools):
        counts[index] += min(num_samples - sum(counts), pool.count_nearest(high) - counts[index])
    return counts, high


def _choose_swaps(
    pools: Sequence[_Pool], draws: Sequence[_Draw], sources: Sequence[WeightedSource], total: int
) -> list[tuple[Swaps, int]]:
    """Return each stratum's swaps with the tokens that they add, for the total that leaves the least remainder."""
    best: list[tuple[Swaps, int]] = []
    least = math.inf
    for candidate in _list_totals(pools, draws, total):
        targets = apportion(sources, candidate)
        found = []
        for pool, draw in zip(pools, draws, strict=True):
            wanted = targets[pool.share.stratum] - draw.tokens
            swaps = find_swaps(draw.drawn, draw.undrawn, wanted)
            found.append((swaps, wanted - swaps.remainder))
        remainder = sum(abs(swaps.remainder) for swaps, _ in found)
        if remainder < least:
            best, least = found, remainder
        if not remainder:
            break
    return best


def _list_totals(pools: Sequence[_Pool], draws: Sequence[_Draw], total: int) -> list[int]:
    """Return totals worth trying: what is drawn, what was aimed at, and where one stratum needs no swap."""
    drawn = sum(draw.tokens for draw in draws)
    alone = [round(draw.tokens / pool.exact) for pool, draw in zip(pools, draws, strict=True)]
    near = [total, drawn, *(value for value in alone if drawn <= 2 * value and value <= 2 * drawn)]
    return list(dict.fromkeys(value + step for step in _NEIGHBOURS for value in near if value + step > 0))


def _count_strata(rows: Mapping[str, SourceRows]) -> dict[Stratum, int]:
    counts: dict[Stratum, int] = {}
    for name, source in rows.items():
        if source.category_names:
            sizes = np.bincount(source.categories, minlength=len(source.category_names)).tolist()
            counts |= {
                Stratum(name, category): size for category, size in zip(source.category_names, sizes, strict=True)
            }
        else:
            counts[Stratum(name)] = len(source.tokens)
    return counts


def _get_figure(rows: Mapping[str, SourceRows], stratum: Stratum, unit: Unit) -> Counts:
    source = rows[stratum.source]
    values = source.tokens if unit == "tokens" else source.assistant_tokens
    return values if stratum.category is None else values[source.select(stratum.category)]


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
