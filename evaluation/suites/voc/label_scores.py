"""Precision, recall and F1 of label sets, in four averages, at every level of the taxonomy, over it and per label.

An answer that could not be read predicts the empty set. A label that the taxonomy does not know counts as a wrong prediction.

Shapes: N comments, L labels that occur in gold or were predicted, B resamples, 3 = precision, recall, F1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from evaluation.intervals import FloatArray
from evaluation.results.gathered import LabelScores, LevelScores, Triple
from evaluation.suites.voc.label_counts import LabelCounts, LabelSets, count_levels, ratios
from voc.labels.taxonomy import LabelPath

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


def score_hierarchical_sets(predicted: LabelSets, gold: LabelSets) -> FloatArray:
    """Compute hierarchical precision, recall and F1 of label sets: (3,)."""
    return score_hierarchy(sum_labels(counts) for counts in count_levels(predicted, gold).values())[0]


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
