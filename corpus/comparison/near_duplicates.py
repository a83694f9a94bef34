"""Near duplicates: texts whose MinHash digests agree in at least a given share of their values.

Candidates share one band of their digests (locality-sensitive hashing). Bands are sorted one after the other, so the memory
is a few numbers per text; digests are read from a memory-mapped file. Work stays linear in degenerate data: texts that are
in one cluster already are not compared again, and in a large bucket each text is compared with a bounded number of leaders;
what was left out is counted.

Source: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_PERM = 128
_MIN_RECALL = 0.99
_SMALL_BUCKET = 8
_MAX_LEADERS = 16
_COMPARED_AT_ONCE = 1 << 15


@dataclass(frozen=True, slots=True)
class Banding:
    """How digests are cut into bands.

    Attributes:
        num_bands: Number of bands.
        band_rows: Values of a digest in each.
    """

    num_bands: int
    band_rows: int


@dataclass(frozen=True, slots=True)
class NearMatches:
    """What a search found.

    Attributes:
        matches: Per text, the smallest index of its cluster (`cluster_texts`), or the text that it matches or -1
            (`match_texts`).
        num_compared: Pairs whose digests were compared.
        num_capped: Texts that were not compared with all the others in a bucket, because it is too large; one text counts
            once per band.
    """

    matches: np.ndarray
    num_compared: int
    num_capped: int


def choose_banding(threshold: float, num_perm: int = NUM_PERM) -> Banding:
    """Return the widest bands that still find 99 % of the pairs that are just at the threshold.

    Wider bands propose fewer pairs below the threshold; a threshold for which even bands of one value are not enough gets
    those.
    """
    for band_rows in range(num_perm, 1, -1):
        num_bands = num_perm // band_rows
        if 1 - (1 - threshold**band_rows) ** num_bands >= _MIN_RECALL:
            return Banding(num_bands, band_rows)
    return Banding(num_perm, 1)


def cluster_texts(digests: np.ndarray, threshold: float) -> NearMatches:
    """Put texts into clusters: what is near to one member is in.

    Args:
        digests: (texts, permutations), may be memory-mapped.
        threshold: Least share of equal values, 0..1.
    """
    banding = choose_banding(threshold, digests.shape[1])
    roots = np.arange(len(digests))
    compared = capped = 0
    for band in range(banding.num_bands):
        order, starts, sizes = _sort_buckets(_read_band(digests, banding, band))
        is_small = sizes <= _SMALL_BUCKET
        for distance in range(1, _SMALL_BUCKET):
            left, right = _pair_neighbours(order, starts[is_small], sizes[is_small], distance)
            compared += _join_near(digests, roots, left, right, threshold)
        large = _list_members(order, starts[~is_small], sizes[~is_small])
        num_compared, num_left = _join_large_buckets(digests, roots, *large, threshold)
        compared += num_compared
        capped += num_left
    return NearMatches(roots, compared, capped)


def match_texts(digests: np.ndarray, references: np.ndarray, threshold: float) -> NearMatches:
    """Find for each text one of the references that it is near to.

    Args:
        digests: (texts, permutations), may be memory-mapped.
        references: (references, permutations): few, such as a test set.
        threshold: Least share of equal values, 0..1.
    """
    banding = choose_banding(threshold, digests.shape[1])
    matches = np.full(len(digests), -1)
    compared = capped = 0
    for band in range(banding.num_bands):
        keys, reference_keys = _read_band(digests, banding, band), _read_band(references, banding, band)
        order = np.argsort(reference_keys, kind="stable")
        texts = np.flatnonzero(np.isin(keys, reference_keys) & (matches < 0))
        begin = np.searchsorted(reference_keys[order], keys[texts], side="left")
        end = np.searchsorted(reference_keys[order], keys[texts], side="right")
        for leader in range(_MAX_LEADERS):
            is_open = (begin + leader < end) & (matches[texts] < 0)
            left, right = texts[is_open], order[begin[is_open] + leader]
            is_near = _compare(digests, left, references, right, threshold)
            matches[left[is_near]] = right[is_near]
            compared += len(left)
        capped += int(((end - begin > _MAX_LEADERS) & (matches[texts] < 0)).sum())
    return NearMatches(matches, compared, capped)


def _read_band(digests: np.ndarray, banding: Banding, band: int) -> np.ndarray:
    """Hash one band of every digest to 64 bits."""
    keys = np.zeros(len(digests), dtype=np.uint64)
    for column in range(band * banding.band_rows, (band + 1) * banding.band_rows):
        keys = (keys ^ digests[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _sort_buckets(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the texts sorted by key, and where each bucket of two or more begins and its size."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_first = np.ones(len(keys), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(is_first)
    sizes = np.diff(np.append(starts, len(keys)))
    return order, starts[sizes > 1], sizes[sizes > 1]


def _pair_neighbours(
    order: np.ndarray, starts: np.ndarray, sizes: np.ndarray, distance: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pair the members of each bucket that stand `distance` apart."""
    counts = np.maximum(sizes - distance, 0)
    ends = np.cumsum(counts)
    places = np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)
    return order[places], order[places + distance]


def _list_members(order: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the members of the buckets, one bucket after the other, and the number of each one's bucket."""
    members, _ = _pair_neighbours(order, starts, sizes, 0)
    return members, np.repeat(np.arange(len(sizes)), sizes)


def _join_large_buckets(
    digests: np.ndarray, roots: np.ndarray, members: np.ndarray, buckets: np.ndarray, threshold: float
) -> tuple[int, int]:
    """Compare the members of each bucket with its first, the rest with the first of the rest, and so on.

    Returns:
        The number of pairs compared, and of members that were left in company after the last leader.
    """
    compared = 0
    for _ in range(_MAX_LEADERS):
        is_leader = np.diff(buckets, prepend=-1) != 0
        leaders = members[is_leader][np.cumsum(is_leader) - 1]
        compared += _join_near(digests, roots, leaders, members, threshold)
        is_left = roots[members] != roots[leaders]
        members, buckets = members[is_left], buckets[is_left]
    return compared, int((np.bincount(buckets)[buckets] > 1).sum()) if len(buckets) else 0


def _join_near(digests: np.ndarray, roots: np.ndarray, left: np.ndarray, right: np.ndarray, threshold: float) -> int:
    """Compare the pairs that are not in one cluster yet, join those that are near; return how many were compared."""
    is_open = roots[left] != roots[right]
    left, right = left[is_open], right[is_open]
    is_near = _compare(digests, left, digests, right, threshold)
    join_clusters(roots, left[is_near], right[is_near])
    return len(left)


def _compare(
    digests: np.ndarray, left: np.ndarray, others: np.ndarray, right: np.ndarray, threshold: float
) -> np.ndarray:
    """Tell for each pair whether its digests agree in at least the given share of values."""
    is_near = np.zeros(len(left), dtype=bool)
    # The small number keeps a threshold that is met exactly (0.7 of 10 values) from being missed by its last bit.
    least = np.ceil(threshold * digests.shape[1] - 1e-9)
    for start in range(0, len(left), _COMPARED_AT_ONCE):
        piece = slice(start, start + _COMPARED_AT_ONCE)
        is_near[piece] = (digests[left[piece]] == others[right[piece]]).sum(axis=1) >= least
    return is_near


def join_clusters(roots: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Join the clusters of each pair in place (union-find); afterwards every text points at the smallest of its cluster."""
    while True:
        first, second = roots[left], roots[right]
        is_open = first != second
        if not is_open.any():
            return
        np.minimum.at(roots, np.maximum(first, second)[is_open], np.minimum(first, second)[is_open])
        while True:
            shorter = roots[roots]
            if np.array_equal(shorter, roots):
                break
            roots[:] = shorter
