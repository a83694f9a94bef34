"""Whether the emotion is right where the label is.

Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from evaluation.intervals import Bootstrap, percentile_interval, share_of
from evaluation.results.gathered import EmotionCounts, Emotions
from evaluation.suites.voc.answers import VocAnswer
from evaluation.suites.voc.label_counts import count_labels
from evaluation.suites.voc.label_scores import sum_labels
from evaluation.suites.voc.resampling import resample_sums
from voc.labels.taxonomy import LabelPath
from voc.records.records import Segment


def measure_emotion(answers: Sequence[VocAnswer], known_emotions: Collection[str], bootstrap: Bootstrap) -> Emotions:
    """Compute emotion accuracy: of the (comment, full path) pairs that are in gold and were predicted, the share whose
    set of emotions is the same. A wrong label is not counted again as a wrong emotion.

    Args:
        answers: One per test comment.
        known_emotions: Emotions of the training rows; those of the test rows are known too.
        bootstrap: How the interval is made; comments are resampled.

    Returns:
        `accuracy` and its `interval` (None without such a pair, in the answers or in any resample) and `num_pairs`; `unknown`:
        predicted segments whose emotion no training or test row has, as a share of all predicted segments; `emotions`: per
        emotion among the pairs its `gold`, `predicted` and `true_positive` pairs; `confusion`: {gold, predicted, count} of the
        pairs with one emotion on each side that differ, most frequent first; `num_mixed`: pairs with several emotions on a side.

    Source: the joint evaluation of category and sentiment in aspect-based analysis, given the right category: Pontiki et al.,
    2016, SemEval-2016 Task 5: Aspect Based Sentiment Analysis, slot 3.
    """
    matched = [_match(answer) for answer in answers]
    pairs = [pair for found in matched for pair in found]
    table = np.array([[sum(g == p for g, p in found), len(found)] for found in matched], dtype=np.float64)
    right, total = (int(value) for value in table.reshape(-1, 2).sum(axis=0))
    known = set(known_emotions) | {s.emotion for answer in answers for s in answer.record.segments}
    predicted = [segment for answer in answers for segment in answer.segments]
    single = Counter((*g, *p) for g, p in pairs if len(g) == len(p) == 1 and g != p)
    ordered = sorted(single.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        "accuracy": right / total if total else None,
        "interval": _interval(table, bootstrap) if total else None,
        "num_pairs": total,
        "unknown": share_of(sum(segment.emotion not in known for segment in predicted), len(predicted)),
        "emotions": _list_emotions(pairs),
        "confusion": [{"gold": g, "predicted": p, "count": count} for (g, p), count in ordered],
        "num_mixed": sum(len(g) > 1 or len(p) > 1 for g, p in pairs),
    }


EmotionPair = tuple[frozenset[str], frozenset[str]]


def _match(answer: VocAnswer) -> list[EmotionPair]:
    expected, seen = _emotions(answer.record.segments), _emotions(answer.segments)
    return [(frozenset(expected[label]), frozenset(seen[label])) for label in expected if label in seen]


def _emotions(segments: Iterable[Segment]) -> dict[LabelPath, set[str]]:
    found: dict[LabelPath, set[str]] = defaultdict(set)
    for segment in segments:
        found[segment.label].add(segment.emotion)
    return dict(found)


def _interval(table: np.ndarray, bootstrap: Bootstrap) -> list[float] | None:
    right, total = resample_sums(table, bootstrap).T
    if not (total > 0).any():
        return None
    # A resample without a pair says nothing about accuracy.
    ends = percentile_interval(right[total > 0] / total[total > 0], bootstrap.confidence)
    return [ends.low, ends.high]


def _list_emotions(pairs: Sequence[EmotionPair]) -> list[EmotionCounts]:
    counts = count_labels([{(e,) for e in p} for _, p in pairs], [{(e,) for e in g} for g, _ in pairs])
    outcomes = sum_labels(counts).outcomes[0].T.astype(int).tolist()
    return [
        {"emotion": name, "gold": hits + missed, "predicted": hits + extra, "true_positive": hits}
        for (name,), (hits, extra, missed) in zip(counts.labels, outcomes, strict=True)
    ]
