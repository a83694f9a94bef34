"""Bootstrap intervals of label scores: comments are drawn again, and every figure is computed from what the drawn ones add up to.

One resample is one pass over sparse counts with the number of times that each comment was drawn: no prediction is read twice and
no N x B array is made, so 2,000 resamples of a million comments take the memory of one. The same seed gives the same resamples,
however many are scored at once.

Shapes: N comments, B resamples, 3 = precision, recall, F1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.intervals import Bootstrap, FloatArray, PairedDifference, draw_weights, percentile_interval
from evaluation.suites.voc.label_scores import (
    AVERAGES,
    FIGURES,
    Average,
    IntArray,
    LabelCounts,
    LabelSums,
    ratios,
    score_hierarchy,
    score_labels,
    score_sums,
    sum_labels,
)

RESAMPLES_PER_CHUNK = 64
Ends = dict[str, list[float]]


def iterate_sums(
    counts: Sequence[LabelCounts], bootstrap: Bootstrap, chunk: int = RESAMPLES_PER_CHUNK
) -> Iterator[list[LabelSums]]:
    """Yield the sums of each counts over the same resamples, `chunk` resamples at a time.

    Raises:
        ValueError: If the counts are not of the same comments.
    """
    sizes = {one.num_comments for one in counts}
    if len(sizes) != 1:
        raise ValueError(f"paired comments are needed: {' against '.join(map(str, sorted(sizes)))}")
    rows: list[list[LabelSums]] = []
    for number, weights in enumerate(draw_weights(sizes.pop(), bootstrap.num_resamples, bootstrap.seed), start=1):
        rows.append([sum_labels(one, weights[None]) for one in counts])
        if len(rows) == chunk or number == bootstrap.num_resamples:
            yield [_stack(column) for column in zip(*rows, strict=True)]
            rows = []


def _stack(column: Sequence[LabelSums]) -> LabelSums:
    return LabelSums(np.concatenate([s.outcomes for s in column]), np.concatenate([s.samples for s in column]))


def bootstrap_scores(counts: LabelCounts, bootstrap: Bootstrap) -> dict[Average, Ends]:
    """Return the percentile interval [low, high] of every average's precision, recall and F1."""
    scores = [score_sums(sums) for (sums,) in iterate_sums([counts], bootstrap)]
    return {a: name_ends(np.concatenate([chunk[a] for chunk in scores]), bootstrap.confidence) for a in AVERAGES}


def bootstrap_levels(
    levels: Mapping[str, LabelCounts], groups: Mapping[str, IntArray], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return the intervals of everything that is computed from the levels, over the same resamples.

    Source: Efron, Tibshirani, 1993, An Introduction to the Bootstrap, chapter 13 (percentile interval).

    Args:
        levels: Counts by level, the full path last.
        groups: Places of some labels among the full path's; each group is scored `micro` on its own labels.
        bootstrap: How.

    Returns:
        `levels` (by level and average), `hierarchical` and `groups` (by name), each as {figure: [low, high]}.
    """
    leaf = len(levels) - 1
    found: dict[tuple[str, ...], list[FloatArray]] = {}
    for sums in iterate_sums(list(levels.values()), bootstrap):
        for name, level in zip(levels, sums, strict=True):
            for average, values in score_sums(level).items():
                found.setdefault(("levels", name, average), []).append(values)
        found.setdefault(("hierarchical",), []).append(score_hierarchy(sums))
        for name, places in groups.items():
            found.setdefault(("groups", name), []).append(score_group(sums[leaf], places))
    ends = {key: name_ends(np.concatenate(values), bootstrap.confidence) for key, values in found.items()}
    return {
        "levels": {name: {a: ends["levels", name, a] for a in AVERAGES} for name in levels},
        "hierarchical": ends[("hierarchical",)],
        "groups": {name: ends["groups", name] for name in groups},
    }


def score_group(sums: LabelSums, places: IntArray) -> FloatArray:
    """Compute micro precision, recall and F1 over some labels alone: (B, 3)."""
    return ratios(*np.moveaxis(sums.outcomes[:, :, places].sum(axis=-1), 1, 0))


def compare_f1(
    candidate: LabelCounts, reference: LabelCounts, average: Average, bootstrap: Bootstrap
) -> PairedDifference:
    """Return the F1 difference of two models on the same comments with its paired bootstrap interval.

    Both models are scored on the same resamples, so what is common to them cancels.

    Source: Koehn, 2004, Statistical Significance Tests for Machine Translation Evaluation; Berg-Kirkpatrick, Burkett,
    Klein, 2012, An Empirical Investigation of Statistical Significance in NLP.

    Raises:
        ValueError: If the two do not have the same number of comments, or none.
    """
    n = candidate.num_comments
    if reference.num_comments != n or n == 0:
        raise ValueError(f"paired comments are needed: {n} against {reference.num_comments}")
    point = [float(score_labels(counts)[average][0, 2]) for counts in (candidate, reference)]
    differences = [
        score_sums(mine)[average][:, 2] - score_sums(other)[average][:, 2]
        for mine, other in iterate_sums([candidate, reference], bootstrap)
    ]
    interval = percentile_interval(np.concatenate(differences), bootstrap.confidence)
    return PairedDifference(point[0] - point[1], interval.low, interval.high, n)


def name_ends(values: FloatArray, confidence: float) -> Ends:
    """Return the percentile interval [low, high] of each of the three figures in (B, 3)."""
    ends = [percentile_interval(column, confidence) for column in values.T]
    return {name: [end.low, end.high] for name, end in zip(FIGURES, ends, strict=True)}


def resample_sums(table: FloatArray, bootstrap: Bootstrap) -> FloatArray:
    """Return what the rows of a table, one per comment, add up to in each resample: (N, K) gives (B, K)."""
    draws = draw_weights(len(table), bootstrap.num_resamples, bootstrap.seed)
    return np.stack([weights @ table for weights in draws])
