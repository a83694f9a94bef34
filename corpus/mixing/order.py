"""The order in which an arm sees its rows, computed for any slice of positions and never held as a whole.

A position of the run is mapped by a keyed permutation to a draw, a draw to its stratum and epoch, and its place in the epoch
by the epoch's own permutation to a row. So a rank, a resumed run and a reader of one row all see the same order, in time
and memory of the slice that they ask for.

Source: generalized Feistel cipher and cycle walking, Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA
2002, sections 4 and 5; round function: finaliser of SplitMix64, Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
Generators", OOPSLA 2014.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import numpy.typing as npt

from voc.errors import MixtureError
from voc.mixture import MixturePlan, StratumShare

IntArray = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]

MAX_DOMAIN = 1 << 40
NUM_ROUNDS = 6
_GOLDEN = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1
_FRACTION_BITS = 40


def derive_key(*parts: int | str | None) -> int:
    """Return a 64-bit key that depends on every part, the same on every machine."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def permute(index: npt.ArrayLike, size: int, key: int | _Words) -> IntArray:
    """Map indices by a pseudo-random permutation of 0..size-1.

    Args:
        index: [n] values in 0..size-1, in any order, repeats allowed.
        size: Size of the domain, 1 to 2**40.
        key: Which permutation: one for all, or [n] a key for each index.

    Raises:
        ValueError: If the size or an index is out of range.
    """
    values = np.asarray(index, dtype=np.int64)
    if not 1 <= size <= MAX_DOMAIN:
        raise ValueError(f"a permutation of {size} values was requested, possible are 1 to 2**40")
    if values.size and not (values.min() >= 0 and values.max() < size):
        raise ValueError(f"indices from {values.min()} to {values.max()} are not all in 0..{size - 1}")
    keys = np.atleast_1d(np.asarray(key, dtype=np.uint64))
    result = _encipher(values.astype(np.uint64), size, keys)
    outside = np.flatnonzero(result >= size)
    while outside.size:
        walked = _encipher(result[outside], size, keys if keys.size == 1 else keys[outside])
        result[outside] = walked
        outside = outside[walked >= size]
    return result.astype(np.int64)


class TrainingOrder:
    """The samples of an arm in training order, addressed by position.

    Args:
        plan: What the arm draws.

    Raises:
        MixtureError: If the plan's counts or swaps do not fit each other.
    """

    def __init__(self, plan: MixturePlan) -> None:
        for share in plan.shares:
            _check_share(share)
        if sum(share.num_samples for share in plan.shares) != plan.num_samples:
            raise MixtureError(
                f"the strata give {[share.num_samples for share in plan.shares]} samples",
                expected=f"{plan.num_samples} in all",
                remedy="delete the data directory of the run and prepare it again",
            )
        self.plan = plan
        self._starts = np.cumsum([0, *(share.num_samples for share in plan.shares)], dtype=np.int64)
        self._key = derive_key(plan.seed, "order")

    def __len__(self) -> int:
        return self.plan.num_samples

    def locate(self, start: int, stop: int) -> tuple[IntArray, IntArray]:
        """Return which rows are at positions start..stop-1, however the order is cut into slices.

        Returns:
            [stop - start] index of the share in the plan, and [stop - start] the row inside its stratum: the number of the
            row among the rows of that stratum, in source order.

        Raises:
            ValueError: If the slice is not inside the order.
        """
        if not 0 <= start <= stop <= len(self):
            raise ValueError(f"positions {start} to {stop} were requested, the order has 0 to {len(self)}")
        return self.locate_at(np.arange(start, stop, dtype=np.int64))

    def locate_at(self, positions: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        """Return the same for positions in any order.

        Args:
            positions: [n] positions of the order, repeats allowed.

        Raises:
            ValueError: If one is not inside the order.
        """
        draws = permute(positions, max(1, len(self)), self._key)
        strata = np.searchsorted(self._starts, draws, side="right") - 1
        rows = np.empty_like(draws)
        for index in np.unique(strata):
            chosen = strata == index
            rows[chosen] = locate_draws(self.plan.shares[index], self.plan.seed, draws[chosen] - self._starts[index])
        return strata.astype(np.int64), rows


def locate_draws(share: StratumShare, seed: int, draws: IntArray) -> IntArray:
    """Return the row of each draw of one stratum: epoch by epoch, each epoch in its own order, swaps honoured.

    Args:
        share: The stratum's part of the plan.
        seed: The plan's seed.
        draws: [n] numbers of draws, 0..num_samples-1.
    """
    epochs, places = np.divmod(draws, share.num_rows)
    last_epoch = share.num_samples // share.num_rows
    for drawn, undrawn in share.swaps:
        places[(epochs == last_epoch) & (places == drawn)] = undrawn
    return permute(places, share.num_rows, derive_epoch_keys(share, seed, epochs))


def derive_epoch_keys(share: StratumShare, seed: int, epochs: npt.ArrayLike) -> _Words:
    """Return [n] the keys of the stratum's epochs, of which `epochs` has the numbers."""
    key = derive_key(seed, "rows", share.name, share.category)
    return _mix(np.atleast_1d(epochs).astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key))


def _check_share(share: StratumShare) -> None:
    partial = share.num_samples % share.num_rows if share.num_rows > 0 else 0
    places = [place for pair in share.swaps for place in pair]
    fits = all(0 <= drawn < partial <= undrawn < share.num_rows for drawn, undrawn in share.swaps)
    if share.num_rows < 1 or share.num_samples < 0 or not fits or len(set(places)) < len(places):
        raise MixtureError(
            f"the plan of '{share.stratum}' has {share.num_rows} rows, {share.num_samples} samples, swaps {share.swaps}",
            expected="at least one row, and swaps of different rows that the last epoch draws and does not draw",
            remedy="delete the data directory of the run and prepare it again",
        )


def _encipher(values: _Words, size: int, keys: _Words) -> _Words:
    """Permute 0..width*height-1, a rectangle that holds the domain and hardly more."""
    width = math.isqrt(size - 1) + 1
    height = -(-size // width)
    right, left = np.divmod(values, np.uint64(width))
    for turn in range(NUM_ROUNDS):
        modulus = np.uint64(width if turn % 2 == 0 else height)
        round_keys = _mix(keys + np.uint64(_GOLDEN * (turn + 1) & _WORD))
        moved = left + _scale(_mix(right + round_keys), modulus)
        moved -= np.where(moved >= modulus, modulus, np.uint64(0))
        left, right = right, moved
    return right * np.uint64(width) + left


def _mix(words: _Words) -> _Words:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _scale(words: _Words, modulus: np.uint64) -> _Words:
    """Map 64-bit words evenly to 0..modulus-1, without a division; modulus is at most 2**20."""
    return ((words >> np.uint64(64 - _FRACTION_BITS)) * modulus) >> np.uint64(_FRACTION_BITS)
