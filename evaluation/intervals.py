"""Intervals and tests for figures that are compared: Wilson, bootstrap over items, paired differences, McNemar.

Nothing here knows what was measured. Every function is deterministic: resampling takes a seed.

Shapes: N items, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from evaluation.results.figures import Change, Share

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made: resamples, two-sided confidence, seed."""

    num_resamples: int
    confidence: float
    seed: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Candidate minus reference on the same items.

    Attributes:
        value: Difference of the two figures.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Pairs.
        gained: Items that only the candidate has right; None for figures that are not a share of items.
        lost: Items that only the reference has right; None likewise.
        p_value: Exact McNemar p-value, two-sided; None likewise.
    """

    value: float
    low: float
    high: float
    n: int
    gained: int | None = None
    lost: int | None = None
    p_value: float | None = None

    def to_json(self) -> Change:
        """Return the fields as a mapping."""
        return cast("Change", asdict(self))


def bonferroni_confidence(confidence: float, num_comparisons: int) -> float:
    """Return the confidence of each of several intervals, so that all of them hold together with `confidence`.

    Source: Dunn, 1961, Multiple Comparisons Among Means.
    """
    return 1 - (1 - confidence) / max(num_comparisons, 1)


def wilson_interval(successes: int, n: int, confidence: float) -> Interval:
    """Return the score interval of a share; (0, 1) when there are no items.

    Source: Wilson, 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    z = float(norm.ppf(0.5 + confidence / 2))
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return Interval(low, high)


def share_of(count: int, n: int, confidence: float | None = None) -> Share:
    """Return a share with its numbers, and with a Wilson interval if a confidence is given."""
    share: Share = {"ratio": count / n if n else None, "count": count, "n": n}
    if confidence is not None:
        interval = wilson_interval(count, n, confidence)
        share["interval"] = [interval.low, interval.high]
    return share


def mcnemar_exact(gained: int, lost: int) -> float:
    """Return the two-sided exact p-value that gains and losses are equally likely.

    Source: McNemar, 1947; exact binomial form as in Fagerland, Lydersen, Laake, 2013, BMC Med. Res. Methodol. 13:91.
    """
    if gained + lost == 0:
        return 1.0
    return min(1.0, 2 * float(binom.cdf(min(gained, lost), gained + lost, 0.5)))


def paired_share_difference(
    candidate: Sequence[bool] | NDArray[np.bool_], reference: Sequence[bool] | NDArray[np.bool_], confidence: float
) -> PairedDifference:
    """Compare two shares on the same items: the difference, its interval, and McNemar's exact p-value.

    The interval is Newcombe's hybrid score interval, which keeps its width when no pair is discordant (a bootstrap would
    shrink to nothing there, so that two perfect models would be called equal beyond doubt after any number of items).

    Source: Newcombe, 1998, Improved confidence intervals for the difference between binomial proportions based on paired
    data, Statistics in Medicine 17:2635-2650, method 10.

    Raises:
        ValueError: If the two are not of the same length, or empty.
    """
    a, b = np.asarray(candidate, dtype=bool), np.asarray(reference, dtype=bool)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"paired items are needed: {a.size} against {b.size}")
    n = int(a.size)
    both, gained, lost = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    neither = n - both - gained - lost
    value = (gained - lost) / n
    share_a, share_b = (both + gained) / n, (both + lost) / n
    score_a, score_b = wilson_interval(both + gained, n, confidence), wilson_interval(both + lost, n, confidence)
    phi = _newcombe_phi(both, gained, lost, neither)
    down, up_reference = share_a - score_a.low, score_b.high - share_b
    up, down_reference = score_a.high - share_a, share_b - score_b.low
    low = value - math.sqrt(max(down**2 - 2 * phi * down * up_reference + up_reference**2, 0.0))
    high = value + math.sqrt(max(up**2 - 2 * phi * up * down_reference + down_reference**2, 0.0))
    return PairedDifference(value, max(low, -1.0), min(high, 1.0), n, gained, lost, mcnemar_exact(gained, lost))


def _newcombe_phi(both: int, gained: int, lost: int, neither: int) -> float:
    """Return the correlation of the two answers, with Newcombe's continuity correction when it is positive."""
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    if margins == 0:
        return 0.0
    n = both + gained + lost + neither
    cross = both * neither - gained * lost
    corrected = max(cross - n / 2, 0.0) if cross > 0 else float(cross)
    return corrected / math.sqrt(margins)


def draw_weights(num_items: int, num_resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield bootstrap resamples of items, one at a time, as counts of how often each item was drawn.

    A resample is drawn by itself, so the same seed gives the same resamples to whoever asks, however they are used.

    Source: Efron, 1979, Bootstrap Methods: Another Look at the Jackknife.

    Yields:
        `num_resamples` times weights of shape (N,) that sum to N.
    """
    generator = np.random.default_rng(seed)
    for _ in range(num_resamples):
        # Half the time of 64-bit draws, which a million items and thousands of resamples notice.
        drawn = generator.integers(0, max(num_items, 1), size=num_items, dtype=np.uint32)
        yield np.bincount(drawn, minlength=num_items).astype(np.float64)


def percentile_interval(values_B: FloatArray, confidence: float) -> Interval:  # noqa: N803 - a shape suffix
    """Return the percentile interval of resampled figures."""
    low, high = np.quantile(values_B, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def bootstrap_mean(
    values: Sequence[float] | FloatArray, *, num_resamples: int, confidence: float, seed: int
) -> Interval:
    """Return the percentile interval of a mean over items that take few distinct values.

    Resampling items is the same as drawing how many of them have each value, which costs B draws instead of B x N.

    Raises:
        ValueError: If there are no items.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("the mean of no items has no interval")
    levels, counts = np.unique(array, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(array.size, counts / array.size, size=num_resamples)
    return percentile_interval(drawn @ levels / array.size, confidence)


def compare_values(candidate: Sequence[Any], reference: Sequence[Any], bootstrap: Bootstrap) -> PairedDifference:
    """Compare two means on the same items; an item's value is a number, a truth, or a list of them that stand together.

    Right or wrong per item is compared as `paired_share_difference` does. Other numbers, and the mean over the entries of all
    lists, get the percentile interval of a paired bootstrap over items: entries of one item are not independent.

    Raises:
        ValueError: If the two are not of the same length, or empty.
    """
    if len(candidate) != len(reference) or not candidate:
        raise ValueError(f"paired items are needed: {len(candidate)} against {len(reference)}")
    if all(not isinstance(value, list) and value in (0, 1) for value in (*candidate, *reference)):
        return paired_share_difference(
            [bool(value) for value in candidate], [bool(value) for value in reference], bootstrap.confidence
        )
    sums = [np.array([float(np.sum(value)) for value in side]) for side in (candidate, reference)]
    counts = [
        np.array([len(value) if isinstance(value, list) else 1 for value in side], dtype=float)
        for side in (candidate, reference)
    ]
    point = [float(total.sum() / max(count.sum(), 1.0)) for total, count in zip(sums, counts, strict=True)]
    draws = draw_weights(len(candidate), bootstrap.num_resamples, bootstrap.seed)
    resampled_B = np.array(  # noqa: N806 - a shape suffix
        [(w @ sums[0]) / max(w @ counts[0], 1.0) - (w @ sums[1]) / max(w @ counts[1], 1.0) for w in draws]
    )
    interval = percentile_interval(resampled_B, bootstrap.confidence)
    return PairedDifference(point[0] - point[1], interval.low, interval.high, len(candidate))
