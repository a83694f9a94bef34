"""Every figure that label sets alone give: four averages at four levels, over the tree, per bucket and per label, with intervals.

Pure. It knows nothing of segments, so an answer read leniently, one read strictly and a part of the comments are scored alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.intervals import Bootstrap
from evaluation.suites.voc.label_counts import LabelSets, count_levels
from evaluation.suites.voc.label_scores import list_label_scores, score_hierarchy, score_level, sum_labels, to_figures
from evaluation.suites.voc.resampling import bootstrap_levels
from evaluation.suites.voc.support import place_buckets, score_buckets
from voc.labels.taxonomy import LEVELS, LabelPath

LEAF = LEVELS[-1]


def measure_labels(
    predicted: LabelSets,
    gold: LabelSets,
    buckets: Mapping[LabelPath, str],
    training_support: Mapping[LabelPath, int],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Compute every figure of predicted against gold label sets.

    Args:
        predicted: Predicted label paths per comment.
        gold: Gold label paths, in the same order.
        buckets: Bucket of every label of the taxonomy.
        training_support: Training comments per label.
        bootstrap: How the intervals are made.

    Returns:
        `levels` (averages by level), `intervals` (of the full path, by average), `level_intervals` (of every level),
        `hierarchical`, `buckets` and `labels` (one row per label that occurs).

    Raises:
        ValueError: If the two have different lengths.
    """
    levels = count_levels(predicted, gold)
    leaf = levels[LEAF]
    ends = bootstrap_levels(levels, place_buckets(leaf, buckets), bootstrap)
    hierarchical = to_figures(score_hierarchy([sum_labels(counts) for counts in levels.values()])[0])
    return {
        "levels": {name: score_level(counts) for name, counts in levels.items()},
        "intervals": ends["levels"][LEAF],
        "level_intervals": ends["levels"],
        "hierarchical": {**hierarchical, "intervals": ends["hierarchical"]},
        "buckets": [
            {**row, "intervals": ends["groups"][row["name"]]} for row in score_buckets(leaf, buckets, training_support)
        ],
        "labels": list_label_scores(leaf, training_support, buckets),
    }
