"""Precision, recall and F1 of label sets, in four averages, at every level of the taxonomy, over it and per label; and where
wrong labels go: to a sibling of the right one, to another part of the same branch, or elsewhere.

The unit is the *set* of label paths of a comment, predicted against gold. At level L1, L2, L3 the paths are cut to their first
1, 2, 3 names, so that several labels of a comment may become one; L4 is the full path, that is, a leaf. Everything that is
scored is a sum over comments of what is counted here. So one function gives a figure (every comment once) and its bootstrap
resamples (every comment as often as it was drawn).

An answer that could not be read predicts the empty set. A label that the taxonomy does not know counts as a wrong prediction.

Shapes: N comments, L labels that occur in gold or were predicted, P pairs of a comment and a label, B resamples,
3 = precision, recall, F1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from evaluation.intervals import FloatArray, share_of
from evaluation.results.gathered import Confusion, LabelScores, LevelScores, Triple
from evaluation.suites.voc.answers import VocAnswer
from voc.labels.taxonomy import LEVELS, LabelPath

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


def ratios(true_positive: FloatArray, false_positive: FloatArray, false_negative: FloatArray) -> FloatArray:
    """Return precision, recall and F1 along a new last axis; 0 where a denominator is 0.

    F1 = 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall where both are above 0.

    Source: van Rijsbergen, 1979, Information Retrieval, chapter 7 (F = 1 - E with equal weights).
    """
    predicted, gold = true_positive + false_positive, true_positive + false_negative
    parts = [(true_positive, predicted), (true_positive, gold), (2 * true_positive, predicted + gold)]
    return np.stack([np.divide(a, b, out=np.zeros_like(b, dtype=np.float64), where=b > 0) for a, b in parts], axis=-1)


MAX_PAIRS = 50
# By how many names from L1 on a wrong label shares with the gold label that it is paired with.
KINDS = {3: "same_L3", 2: "same_L2", 1: "same_L1", 0: "elsewhere"}
NOTHING_MISSED = "nothing_missed"


def measure_confusion(answers: Sequence[VocAnswer]) -> Confusion:
    """Compare each wrong label (predicted, not in gold) with the labels that were missed (gold, not predicted).

    Inside a comment every wrong label is paired with at most one missed label and every missed label with at most one wrong
    one, nearest pairs first, nearness being the number of names shared from L1 on. A wrong label without a partner is
    `nothing_missed`: said beside the right labels and not in place of one. An invented label is compared like any other.

    Returns:
        `num_wrong`, `num_missed`; the kinds `same_L3` (siblings), `same_L2`, `same_L1`, `elsewhere`, `nothing_missed` as shares
        of the wrong labels; `not_replaced`, the missed labels without a partner, as a share of the missed; and `pairs`, the
        most frequent 50 of {gold, predicted, count, kind}. Which of several equally near labels are paired follows
        their sort order, so single pairs are indicative; the shares do not depend on it.

    Source: the pair-based measures of Kosmopoulos, Partalas, Gaussier, Paliouras, Androutsopoulos, 2015, Evaluation measures for
    hierarchical classification: a unified view and novel approaches, Data Mining and Knowledge Discovery 29:820-865.
    """
    kinds: Counter[str] = Counter()
    pairs: Counter[tuple[LabelPath, LabelPath, str]] = Counter()
    num_wrong = num_missed = num_alone = 0
    for answer in answers:
        wrong, missed = answer.predicted - answer.gold, answer.gold - answer.predicted
        found = pair_wrong(wrong, missed)
        num_wrong += len(wrong)
        num_missed += len(missed)
        num_alone += len(missed) - len(found)
        kinds[NOTHING_MISSED] += len(wrong) - len(found)
        for predicted, gold, shared in found:
            kinds[KINDS[shared]] += 1
            pairs[gold, predicted, KINDS[shared]] += 1
    ordered = sorted(pairs.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_PAIRS]
    shares = {kind: share_of(kinds[kind], num_wrong) for kind in (*KINDS.values(), NOTHING_MISSED)}
    measured = {
        "num_wrong": num_wrong,
        "num_missed": num_missed,
        **shares,
        "not_replaced": share_of(num_alone, num_missed),
        "pairs": [
            {"gold": list(gold), "predicted": list(predicted), "count": count, "kind": kind}
            for (gold, predicted, kind), count in ordered
        ],
    }
    return cast("Confusion", measured)


def pair_wrong(wrong: Collection[LabelPath], missed: Collection[LabelPath]) -> list[tuple[LabelPath, LabelPath, int]]:
    """Pair wrong labels with missed ones, nearest first.

    Branches are nested, so taking the nearest pairs first leaves as many pairs of each nearness as any pairing that prefers
    near ones could have.

    Returns:
        The wrong label, the missed label, and the number of names they share from L1 on.
    """
    left, open_labels = sorted(wrong), sorted(missed)
    pairs = []
    for shared in range(len(LEVELS) - 1, -1, -1):
        waiting: dict[tuple[str, ...], list[LabelPath]] = {}
        for gold in open_labels:
            waiting.setdefault(gold[:shared], []).append(gold)
        unpaired = []
        for predicted in left:
            near = waiting.get(predicted[:shared])
            if near:
                gold = near.pop(0)
                open_labels.remove(gold)
                pairs.append((predicted, gold, shared))
            else:
                unpaired.append(predicted)
        left = unpaired
    return pairs


Average = Literal["micro", "macro", "weighted", "samples"]
AVERAGES: tuple[Average, ...] = ("micro", "macro", "weighted", "samples")
FIGURES = ("precision", "recall", "f1")


@dataclass(frozen=True, slots=True)
class LabelSums:
    """What comments add up to, once or per resample.

    Attributes:
        outcomes: True positives, false positives and false negatives per label: (B, 3, L).
        samples: Mean over comments of their own precision, recall and F1: (B, 3).
    """

    outcomes: FloatArray
    samples: FloatArray

    @property
    def totals(self) -> FloatArray:
        """True positives, false positives and false negatives over all labels: (B, 3)."""
        totals: FloatArray = self.outcomes.sum(axis=-1)
        return totals


def sum_labels(counts: LabelCounts, weights: FloatArray | None = None) -> LabelSums:
    """Add up comments.

    Args:
        counts: What `count_labels` returned.
        weights: How often each comment counts, (B, N); every comment once by default.
    """
    w = np.ones((1, counts.num_comments)) if weights is None else weights
    # Row by row, so that what a resample gives does not depend on the resamples beside it.
    outcomes = np.stack([counts.outcomes @ row for row in w]).reshape(len(w), 3, len(counts.labels))
    samples = np.stack([row @ counts.samples / max(row.sum(), 1.0) for row in w])
    return LabelSums(outcomes, samples)


def score_labels(counts: LabelCounts, weights: FloatArray | None = None) -> dict[Average, FloatArray]:
    """Compute precision, recall and F1 in the four averages, (B, 3) each; `score_sums` has the definitions."""
    return score_sums(sum_labels(counts, weights))


def score_sums(sums: LabelSums) -> dict[Average, FloatArray]:
    """Compute precision, recall and F1 in the four averages.

    - `micro`: over all (comment, label) pairs.
    - `macro`: per label, then the plain mean over the labels that occur in gold (in the resample at hand).
    - `weighted`: the same, weighted by how often the label occurs in gold.
    - `samples`: per comment, then the mean over comments; a comment without gold labels scores 1 when nothing was
      predicted and 0 otherwise.

    A ratio with denominator 0 counts as 0. F1 = 2 TP / (predicted + gold) at the level that is averaged, so macro,
    weighted and samples F1 are not the harmonic mean of the precision and recall beside them.

    Returns:
        For each average, an array (B, 3).

    Source: Sorower, 2010, A Literature Survey on Algorithms for Multi-label Learning; the definitions of scikit-learn's
    precision_recall_fscore_support, to which the tests compare. (Opitz, Burst, 2019, Macro F1 and Macro F1, on the two
    quantities that go by the name of macro F1: this is the mean of F1.)
    """
    hits, extra, missed = np.moveaxis(sums.outcomes, 1, 0)
    figures, support = ratios(hits, extra, missed), hits + missed
    return {
        "micro": ratios(*np.moveaxis(sums.totals, 1, 0)),
        "macro": _mean(figures, (support > 0).astype(np.float64)),
        "weighted": _mean(figures, support),
        "samples": sums.samples,
    }


def _mean(figures: FloatArray, weights: FloatArray) -> FloatArray:
    total = weights.sum(axis=-1, keepdims=True)
    summed: FloatArray = np.einsum("blf,bl->bf", figures, weights)
    return np.divide(summed, total, out=np.zeros_like(summed), where=total > 0)


def score_level(counts: LabelCounts) -> LevelScores:
    """Return the four averages at one level, with the number of labels and of label occurrences in gold."""
    sums = sum_labels(counts)
    scores, support = score_sums(sums), _support(sums)
    averages: dict[str, Any] = {average: to_figures(scores[average][0]) for average in AVERAGES}
    averages |= {"num_labels": int((support > 0).sum()), "gold": int(support.sum())}
    return cast("LevelScores", averages)


def _support(sums: LabelSums) -> FloatArray:
    hits, _, missed = sums.outcomes[0]
    support: FloatArray = hits + missed
    return support


def score_hierarchy(levels: Iterable[LabelSums]) -> FloatArray:
    """Compute hierarchical precision, recall and F1: micro over the labels *and all of their ancestors*.

    A wrong leaf under the right L3 earns the three shared ancestors, so near misses count for something. A node of the tree
    stands at one level only, so the pairs of all levels are the pairs of labels and ancestors.

    Source: Kiritchenko, Matwin, Famili, 2005, Functional Annotation of Genes Using Hierarchical Text Categorization;
    Silla, Freitas, 2011, A survey of hierarchical classification across different application domains.

    Args:
        levels: Sums at each level, the full path included.

    Returns:
        Array (B, 3).
    """
    totals = np.sum([sums.totals for sums in levels], axis=0)
    return ratios(*np.moveaxis(totals, 1, 0))


def list_label_scores(
    counts: LabelCounts, training_support: Mapping[LabelPath, int], buckets: Mapping[LabelPath, str]
) -> list[LabelScores]:
    """Return one row per label that occurs in gold or was predicted, those with most support in gold first.

    Precision, recall and F1 are one-vs-rest over the comments; None where there is nothing to divide by. A label that only the
    model knows has the bucket `invented`. Labels of the taxonomy that occur on neither side are not listed.

    Args:
        counts: Counts at the full path.
        training_support: Training comments per label.
        buckets: Bucket of every label of the taxonomy.

    Returns:
        Rows of `label` (the path as a list), `support` (comments with it in gold), `predicted` (comments where it was
        predicted), `true_positive`, the three figures, `training_support` and `bucket`.
    """
    outcomes = sum_labels(counts).outcomes[0].T
    rows: list[LabelScores] = []
    for label, (hits, extra, missed) in zip(counts.labels, outcomes.astype(int).tolist(), strict=True):
        path: Any = label
        rows.append(
            {
                "label": list(label),
                "support": hits + missed,
                "predicted": hits + extra,
                "true_positive": hits,
                "precision": hits / (hits + extra) if hits + extra else None,
                "recall": hits / (hits + missed) if hits + missed else None,
                "f1": 2 * hits / (2 * hits + extra + missed),
                "training_support": training_support.get(path, 0),
                "bucket": buckets.get(path, "invented"),
            }
        )
    return sorted(rows, key=lambda row: (-row["support"], -row["predicted"], row["label"]))


def to_figures(values: FloatArray) -> Triple:
    """Name the three entries of an array (3,)."""
    return cast("Triple", dict(zip(FIGURES, map(float, values), strict=True)))
