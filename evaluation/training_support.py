"""What the training data alone explains: label support, head / torso / tail, and the look-up floor.

Pure. A score means little without these beside it: a model that only remembers which phrase had which label reaches the
floor, and an average over frequent labels hides the rare ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from evaluation.metrics import count_labels, score_level
from voc.records import VocRecord
from voc.taxonomy import LabelPath, Taxonomy

BUCKETS = (("head", 0.5), ("torso", 0.8), ("tail", 1.0))
UNSEEN = "unseen"


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


def score_buckets(
    predicted: Sequence[Collection[LabelPath]],
    gold: Sequence[Collection[LabelPath]],
    taxonomy: Taxonomy,
    training_support: Mapping[LabelPath, int],
) -> list[dict[str, Any]]:
    """Return micro precision, recall and F1 over each bucket's labels alone.

    Invented labels belong to no bucket. `num_labels` is the bucket's size, `gold` its occurrences in the test set.
    """
    buckets = assign_buckets(taxonomy, training_support)
    rows = []
    for name in (*(name for name, _ in BUCKETS), UNSEEN):
        labels = {path for path, bucket in buckets.items() if bucket == name}
        level = score_level(count_labels([labels & set(p) for p in predicted], [labels & set(g) for g in gold]))
        support = sum(training_support.get(path, 0) for path in labels)
        rows.append(
            {"name": name, "num_labels": len(labels), "training_support": support, "gold": level["gold"]}
            | level["micro"]
        )
    return rows


def build_lookup(training: Iterable[VocRecord]) -> dict[str, LabelPath]:
    """Map each training segment's exact text to its most frequent label (ties: the first in sort order)."""
    labels: dict[str, Counter[LabelPath]] = defaultdict(Counter)
    for record in training:
        for segment in record.segments:
            labels[segment.content][segment.label] += 1
    return {text: min(counts, key=lambda path: (-counts[path], path)) for text, counts in labels.items()}


def measure_lookup_floor(training: Iterable[VocRecord], test: Sequence[VocRecord]) -> dict[str, Any]:
    """Score the classifier that has only memory: it predicts the majority label of every training segment whose exact
    text occurs in the test comment.

    Returns:
        The averages at the full path, as `score_level` gives them.
    """
    lookup = build_lookup(training)
    predicted = [{label for text, label in lookup.items() if text in record.comment} for record in test]
    return score_level(count_labels(predicted, [{s.label for s in record.segments} for record in test]))
