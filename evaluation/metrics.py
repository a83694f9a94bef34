"""Precision, recall and F1 of label sets, in four averages and at every level of the taxonomy.

The unit is the *set* of label paths of a comment, predicted against gold. At level L1, L2, L3 the paths are cut to their
first 1, 2, 3 names; L4 is the full path, that is, a leaf. An answer that could not be read predicts the empty set. A label
that the taxonomy does not know counts as a wrong prediction.

Everything is computed from sufficient statistics per comment, so one function gives the figure itself (every comment once)
and its bootstrap resamples (comments weighted by how often they were drawn).

Shapes: N comments, L labels with gold support, B resamples, 3 = precision, recall, F1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_matrix

from evaluation.intervals import FloatArray, PairedDifference, draw_weights, percentile_interval
from voc.taxonomy import LEVELS

Average = Literal["micro", "macro", "weighted", "samples"]
AVERAGES: tuple[Average, ...] = ("micro", "macro", "weighted", "samples")
FIGURES = ("precision", "recall", "f1")
Path = tuple[str, ...]
LabelSets = Sequence[Collection[Path]]


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What each comment contributes to every average.

    Attributes:
        totals: True positives, predicted and gold labels per comment, all labels alike: (N, 3).
        true_positive: The same per label with gold support, 0 or 1: (N, L), sparse.
        predicted: Likewise.
        gold: Likewise.
        labels: The L labels, sorted.
    """

    totals: FloatArray
    true_positive: csr_matrix
    predicted: csr_matrix
    gold: csr_matrix
    labels: tuple[Path, ...]


def cut_paths(paths: Iterable[Path], depth: int) -> frozenset[Path]:
    """Return the set of the first `depth` names of each path."""
    return frozenset(tuple(path[:depth]) for path in paths)


def count_labels(predicted: LabelSets, gold: LabelSets, depth: int = len(LEVELS)) -> LabelCounts:
    """Reduce predictions and gold labels, both in the same order, to counts at one level.

    Raises:
        ValueError: If the two have different lengths.
    """
    pairs = [(cut_paths(p, depth), cut_paths(g, depth)) for p, g in zip(predicted, gold, strict=True)]
    labels = tuple(sorted({label for _, g in pairs for label in g}))
    index = {label: number for number, label in enumerate(labels)}
    totals = np.array([[len(p & g), len(p), len(g)] for p, g in pairs], dtype=np.float64).reshape(-1, 3)
    return LabelCounts(
        totals,
        _indicator([p & g for p, g in pairs], index),
        _indicator([p for p, _ in pairs], index),
        _indicator([g for _, g in pairs], index),
        labels,
    )


def _indicator(sets: Sequence[Collection[Path]], index: Mapping[Path, int]) -> csr_matrix:
    rows = [row for row, labels in enumerate(sets) for label in labels if label in index]
    columns = [index[label] for labels in sets for label in labels if label in index]
    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(sets), len(index)))


def score_labels(counts: LabelCounts, weights: FloatArray | None = None) -> dict[Average, FloatArray]:
    """Compute precision, recall and F1 in the four averages.

    - `micro`: over all (comment, label) pairs.
    - `macro`: per label, then the plain mean over the labels that occur in gold (in the resample at hand).
    - `weighted`: the same, weighted by how often the label occurs in gold.
    - `samples`: per comment, then the mean over comments; a comment without gold labels scores 1 when nothing was
      predicted and 0 otherwise.

    A ratio with denominator 0 counts as 0. F1 = 2 TP / (predicted + gold) at the level that is averaged, so macro,
    weighted and samples F1 are not the harmonic mean of the precision and recall beside them.

    Args:
        counts: What `count_labels` returned.
        weights: How often each comment counts, (B, N); every comment once by default.

    Returns:
        For each average, an array (B, 3).

    Source: Sorower, 2010, A Literature Survey on Algorithms for Multi-label Learning; the definitions of scikit-learn's
    precision_recall_fscore_support, to which the tests compare.
    """
    w = np.ones((1, counts.totals.shape[0])) if weights is None else weights
    micro = _ratios(*np.moveaxis(w @ counts.totals, -1, 0))
    samples = _ratios(*counts.totals.T)
    samples[(counts.totals[:, 1] == 0) & (counts.totals[:, 2] == 0)] = 1.0
    per_label = [np.asarray((matrix.T @ w.T).T) for matrix in (counts.true_positive, counts.predicted, counts.gold)]
    figures = _ratios(*per_label)
    support = per_label[2]
    return {
        "micro": micro,
        "macro": _mean(figures, (support > 0).astype(np.float64)),
        "weighted": _mean(figures, support),
        "samples": (w @ samples) / np.maximum(w.sum(axis=1, keepdims=True), 1),
    }


def _ratios(true_positive: FloatArray, predicted: FloatArray, gold: FloatArray) -> FloatArray:
    """Return precision, recall and F1 along a new last axis; 0 where a denominator is 0."""
    parts = [(true_positive, predicted), (true_positive, gold), (2 * true_positive, predicted + gold)]
    return np.stack([np.divide(a, b, out=np.zeros_like(b, dtype=np.float64), where=b > 0) for a, b in parts], axis=-1)


def _mean(figures: FloatArray, weights: FloatArray) -> FloatArray:
    total = weights.sum(axis=-1, keepdims=True)
    summed: FloatArray = np.einsum("blf,bl->bf", figures, weights)
    return np.divide(summed, total, out=np.zeros_like(summed), where=total > 0)


def score_level(counts: LabelCounts) -> dict[str, Any]:
    """Return the four averages at one level, with the number of labels and of label occurrences in gold."""
    scores = score_labels(counts)
    averages: dict[str, Any] = {average: to_figures(scores[average][0]) for average in AVERAGES}
    return {**averages, "num_labels": len(counts.labels), "gold": int(counts.totals[:, 2].sum())}


def score_hierarchy(predicted: LabelSets, gold: LabelSets) -> FloatArray:
    """Compute hierarchical precision, recall and F1: micro over the labels *and all of their ancestors*.

    A wrong leaf under the right L3 earns the three shared ancestors, so near misses count for something.

    Source: Kiritchenko, Matwin, Famili, 2005, Functional Annotation of Genes Using Hierarchical Text Categorization;
    Silla, Freitas, 2011, A survey of hierarchical classification across different application domains.

    Returns:
        Array (3,).
    """
    closed = [[_with_ancestors(paths) for paths in side] for side in (predicted, gold)]
    totals = np.array([[len(p & g), len(p), len(g)] for p, g in zip(*closed, strict=True)], dtype=np.float64)
    return _ratios(*totals.reshape(-1, 3).sum(axis=0)[:, None])[0]


def _with_ancestors(paths: Iterable[Path]) -> frozenset[Path]:
    return frozenset(tuple(path[:depth]) for path in paths for depth in range(1, len(path) + 1))


def bootstrap_scores(
    counts: LabelCounts, *, num_resamples: int, confidence: float, seed: int
) -> dict[Average, dict[str, list[float]]]:
    """Return the percentile interval [low, high] of every average's precision, recall and F1, comments resampled."""
    chunks = [score_labels(counts, w) for w in draw_weights(counts.totals.shape[0], num_resamples, seed)]
    intervals: dict[Average, dict[str, list[float]]] = {}
    for average in AVERAGES:
        values = np.concatenate([chunk[average] for chunk in chunks])
        ends = [percentile_interval(values[:, column], confidence) for column in range(len(FIGURES))]
        intervals[average] = {name: [end.low, end.high] for name, end in zip(FIGURES, ends, strict=True)}
    return intervals


def compare_f1(
    candidate: LabelCounts,
    reference: LabelCounts,
    average: Average,
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> PairedDifference:
    """Return the F1 difference of two models on the same comments with its paired bootstrap interval.

    Both models are scored on the same resamples, so what is common to them cancels.

    Source: Koehn, 2004, Statistical Significance Tests for Machine Translation Evaluation; Berg-Kirkpatrick, Burkett,
    Klein, 2012, An Empirical Investigation of Statistical Significance in NLP.

    Raises:
        ValueError: If the two do not have the same number of comments.
    """
    n = candidate.totals.shape[0]
    if reference.totals.shape[0] != n or n == 0:
        raise ValueError(f"paired comments are needed: {n} against {reference.totals.shape[0]}")
    point = [float(score_labels(counts)[average][0, 2]) for counts in (candidate, reference)]
    differences = [
        score_labels(candidate, w)[average][:, 2] - score_labels(reference, w)[average][:, 2]
        for w in draw_weights(n, num_resamples, seed)
    ]
    interval = percentile_interval(np.concatenate(differences), confidence)
    return PairedDifference(point[0] - point[1], interval.low, interval.high, n)


def to_figures(values: FloatArray) -> dict[str, float]:
    """Name the three entries of an array (3,)."""
    return dict(zip(FIGURES, map(float, values), strict=True))
