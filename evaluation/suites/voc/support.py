"""What the training data alone explains: label support, head / torso / tail, and the look-up floor.

Pure. A score means little without these beside it: a model that only remembers which phrase had which label reaches the
floor, and an average over frequent labels hides the rare ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from evaluation.results.gathered import BucketScores, LevelScores
from evaluation.suites.voc.label_counts import IntArray, LabelCounts, count_labels
from evaluation.suites.voc.label_scores import score_level, sum_labels, to_figures
from evaluation.suites.voc.resampling import score_group
from voc.labels.taxonomy import LabelPath, Taxonomy
from voc.records.records import VocRecord

BUCKETS = (("head", 0.5), ("torso", 0.8), ("tail", 1.0))
UNSEEN = "unseen"
BUCKET_NAMES = (*(name for name, _ in BUCKETS), UNSEEN)


@dataclass(frozen=True, slots=True)
class TrainingLabels:
    """What the training rows say.

    Attributes:
        support: Training comments per label.
        emotions: Every emotion that occurs.
    """

    support: Mapping[LabelPath, int]
    emotions: frozenset[str]


def collect_labels(records: Sequence[VocRecord]) -> TrainingLabels:
    """Collect the labels and emotions of the rows that are trained on."""
    return TrainingLabels(count_support(records), frozenset(s.emotion for r in records for s in r.segments))


def count_support(records: Iterable[VocRecord]) -> dict[LabelPath, int]:
    """Count the comments that carry each label."""
    return dict(Counter(label for record in records for label in {s.label for s in record.segments}))


def assign_buckets(taxonomy: Taxonomy, training_support: Mapping[LabelPath, int]) -> dict[LabelPath, str]:
    """Sort labels by training support into head, torso, tail and unseen.

    The head is the fewest, most frequent labels that together hold half of all training label occurrences; the torso goes
    on to 80 %, the tail is the rest that occurs at all. Ties are broken by path.
    """
    total = sum(training_support.get(path, 0) for path in taxonomy.paths)
    buckets: dict[LabelPath, str] = {}
    before = 0
    for path in sorted(taxonomy.paths, key=lambda p: (-training_support.get(p, 0), p)):
        support = training_support.get(path, 0)
        name = next((name for name, end in BUCKETS if before < end * total), BUCKETS[-1][0])
        buckets[path] = name if support else UNSEEN
        before += support
    return buckets


def place_buckets(counts: LabelCounts, buckets: Mapping[LabelPath, str]) -> dict[str, IntArray]:
    """Return where each bucket's labels stand among the counted ones; invented labels belong to no bucket."""
    names: list[Any] = [buckets.get(path) for path in _as_leaves(counts)]
    return {name: np.array([i for i, n in enumerate(names) if n == name], dtype=np.int64) for name in BUCKET_NAMES}


def _as_leaves(counts: LabelCounts) -> list[LabelPath]:
    return [(path[0], path[1], path[2], path[3]) for path in counts.labels]


def score_buckets(
    counts: LabelCounts, buckets: Mapping[LabelPath, str], training_support: Mapping[LabelPath, int]
) -> list[BucketScores]:
    """Return micro precision, recall and F1 over each bucket's labels alone.

    Invented labels belong to no bucket. `num_labels` is the bucket's size, `gold` its occurrences in the test set.

    Source: the many-, medium- and few-shot splits of long-tailed recognition: Liu, Miao, Zhan, Wang, Gong, Yu, 2019,
    Large-Scale Long-Tailed Recognition in an Open World; here cut by share of occurrences, which carries to any corpus size.
    """
    sums = sum_labels(counts)
    rows: list[dict[str, Any]] = []
    for name, places in place_buckets(counts, buckets).items():
        labels = [path for path, bucket in buckets.items() if bucket == name]
        hits, _, missed = sums.outcomes[0][:, places].sum(axis=-1)
        rows.append(
            {
                "name": name,
                "num_labels": len(labels),
                "training_support": sum(training_support.get(path, 0) for path in labels),
                "gold": int(hits + missed),
                **to_figures(score_group(sums, places)[0]),
            }
        )
    return cast("list[BucketScores]", rows)


def build_lookup(training: Iterable[VocRecord]) -> dict[str, LabelPath]:
    """Map each training segment's exact text to its most frequent label (ties: the first in sort order)."""
    labels: dict[str, Counter[LabelPath]] = defaultdict(Counter)
    for record in training:
        for segment in record.segments:
            labels[segment.content][segment.label] += 1
    return {text: min(counts, key=lambda path: (-counts[path], path)) for text, counts in labels.items()}


def measure_lookup_floor(training: Iterable[VocRecord], test: Sequence[VocRecord]) -> LevelScores:
    """Score the classifier that has only memory: it predicts the majority label of every training segment whose exact
    text occurs in the test comment.

    Returns:
        The averages at the full path, as `score_level` gives them.
    """
    lookup = build_lookup(training)
    predicted = [{label for text, label in lookup.items() if text in record.comment} for record in test]
    return score_level(count_labels(predicted, [{s.label for s in record.segments} for record in test]))
