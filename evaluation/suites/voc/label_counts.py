"""Label sets of many comments as arrays: what each comment contributes to every average, at every level of the taxonomy.

The unit is the *set* of label paths of a comment, predicted against gold. At level L1, L2, L3 the paths are cut to their first
1, 2, 3 names, so that several labels of a comment may become one; L4 is the full path, that is, a leaf.

Everything that is scored is a sum over comments of what is counted here. So one function gives a figure (every comment once) and
its bootstrap resamples (every comment as often as it was drawn).

Shapes: N comments, L labels, P pairs of a comment and a label.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from evaluation.intervals import FloatArray
from voc.labels.taxonomy import LEVELS

Path = tuple[str, ...]
LabelSets = Sequence[Collection[Path]]
IntArray = NDArray[np.int64]
# Rows of the table of outcomes, L of each.
TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = range(3)


@dataclass(frozen=True, slots=True)
class LabelPairs:
    """Both sides of all comments, each path replaced by its number.

    Attributes:
        num_comments: N.
        paths: The distinct paths of both sides, in the order in which they were met.
        predicted: Comment and path number of every predicted label: (2, P).
        gold: Likewise.
    """

    num_comments: int
    paths: tuple[Path, ...]
    predicted: IntArray
    gold: IntArray


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What each comment contributes at one level.

    Attributes:
        labels: The L labels that occur in gold or were predicted, sorted.
        outcomes: 1 where a comment has a label as true positive (rows 0 to L-1), false positive (the next L) or false negative
            (the last L): (3L, N), sparse. A comment has a label at most once.
        samples: Precision, recall and F1 of each comment on its own: (N, 3).
    """

    labels: tuple[Path, ...]
    outcomes: csr_matrix
    samples: FloatArray

    @property
    def num_comments(self) -> int:
        """N."""
        return int(self.samples.shape[0])


def cut_paths(paths: Iterable[Path], depth: int) -> frozenset[Path]:
    """Return the set of the first `depth` names of each path."""
    return frozenset(tuple(path[:depth]) for path in paths)


def pair_labels(predicted: LabelSets, gold: LabelSets) -> LabelPairs:
    """Number the paths of predictions and gold labels, both in the same order of comments; a label given twice counts once.

    Raises:
        ValueError: If the two have different lengths.
    """
    if len(predicted) != len(gold):
        raise ValueError(f"predictions for {len(predicted)} comments and gold labels for {len(gold)}")
    numbers: dict[Path, int] = {}
    sides = []
    for sets in (predicted, gold):
        lengths = np.fromiter(map(len, sets), dtype=np.int64, count=len(sets))
        ids = [numbers.setdefault(path, len(numbers)) for path in chain.from_iterable(sets)]
        sides.append(np.stack([np.repeat(np.arange(len(sets)), lengths), np.array(ids, dtype=np.int64)]))
    return LabelPairs(len(predicted), tuple(numbers), sides[0], sides[1])


def count_labels(predicted: LabelSets, gold: LabelSets, depth: int = len(LEVELS)) -> LabelCounts:
    """Count predictions against gold labels at one level.

    Raises:
        ValueError: If the two have different lengths.
    """
    return count_level(pair_labels(predicted, gold), depth)


def count_levels(predicted: LabelSets, gold: LabelSets) -> dict[str, LabelCounts]:
    """Count predictions against gold labels at all levels, by name of the level.

    Raises:
        ValueError: If the two have different lengths.
    """
    pairs = pair_labels(predicted, gold)
    return {name: count_level(pairs, depth) for depth, name in enumerate(LEVELS, start=1)}


def count_level(pairs: LabelPairs, depth: int) -> LabelCounts:
    """Count at one level: paths are cut to `depth` names, and what has become equal counts once per comment."""
    labels = tuple(sorted({path[:depth] for path in pairs.paths}))
    place = {label: number for number, label in enumerate(labels)}
    of_path = np.array([place[path[:depth]] for path in pairs.paths], dtype=np.int64)
    n, size = pairs.num_comments, len(labels)
    # One number per (comment, label), so that sets are compared by sorting.
    predicted, gold = (_sort_distinct(rows * size + of_path[ids]) for rows, ids in (pairs.predicted, pairs.gold))
    is_hit, is_found = _is_among(predicted, gold), _is_among(gold, predicted)
    keys = (predicted[is_hit], predicted[~is_hit], gold[~is_found])
    table_rows = np.concatenate([key % max(size, 1) + kind * size for kind, key in enumerate(keys)])
    columns = np.concatenate([key // max(size, 1) for key in keys])
    outcomes = csr_matrix((np.ones(len(columns)), (table_rows, columns)), shape=(3 * size, n))
    of_comment = [np.bincount(key // max(size, 1), minlength=n).astype(np.float64) for key in keys]
    samples = ratios(*of_comment)
    samples[sum(of_comment) == 0] = 1.0
    return LabelCounts(labels, outcomes, samples)


def _sort_distinct(values: IntArray) -> IntArray:
    """Sort values and keep one of each; numpy.unique hashes, which is far slower for millions of such numbers."""
    ordered = np.sort(values)
    is_first = np.ones(len(ordered), dtype=np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first]


def _is_among(values: IntArray, others: IntArray) -> NDArray[np.bool_]:
    """Tell which of some sorted, distinct values are among others, sorted and distinct too."""
    if not len(others):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(others, values), len(others) - 1)
    found: NDArray[np.bool_] = others[places] == values
    return found


def select_comments(pairs: LabelPairs, chosen: IntArray) -> LabelPairs:
    """Keep some comments, in the given order, each at most once."""
    place = np.full(pairs.num_comments, -1)
    place[chosen] = np.arange(len(chosen))
    sides = []
    for rows, ids in (pairs.predicted, pairs.gold):
        kept = place[rows] >= 0
        sides.append(np.stack([place[rows][kept], ids[kept]]))
    return LabelPairs(len(chosen), pairs.paths, sides[0], sides[1])


def ratios(true_positive: FloatArray, false_positive: FloatArray, false_negative: FloatArray) -> FloatArray:
    """Return precision, recall and F1 along a new last axis; 0 where a denominator is 0.

    F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall where both are above 0.

    Source: van Rijsbergen, 1979, Information Retrieval, chapter 7 (F = 1 - E with equal weights).
    """
    predicted, gold = true_positive + false_positive, true_positive + false_negative
    parts = [(true_positive, predicted), (true_positive, gold), (2 * true_positive, predicted + gold)]
    return np.stack([np.divide(a, b, out=np.zeros_like(b, dtype=np.float64), where=b > 0) for a, b in parts], axis=-1)
