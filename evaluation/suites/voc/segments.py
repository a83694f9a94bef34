"""How well the predicted segments cut the comment: overlap with the gold segments, coverage, words claimed twice, rewritten text.

Pure. A segment has the place in the comment where its content stands word for word; a content given again takes the next
occurrence while there is one. A content that is nowhere in the comment has no place and no characters: the rate of rewritten
contents counts it, and so does the precision of whole segments. And whether the emotion is right where the label is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from evaluation.intervals import Bootstrap, FloatArray, percentile_interval, share_of
from evaluation.results.figures import Share
from evaluation.results.gathered import EmotionCounts, Emotions, Segmentation, SpanScores, TripleEnds
from evaluation.suites.voc.answers import VocAnswer
from evaluation.suites.voc.label_scores import count_labels, ratios, sum_labels, to_figures
from evaluation.suites.voc.resampling import name_ends, resample_sums
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


@dataclass(frozen=True, slots=True)
class Span:
    """A segment's place: characters `start` to `end` of the comment, and its label."""

    start: int
    end: int
    label: LabelPath


def locate_segments(segments: Iterable[Segment], comment: str) -> list[Span]:
    """Return the spans of the segments whose content is a verbatim piece of the comment, in their order."""
    spans: list[Span] = []
    after: dict[str, int] = {}
    for segment in segments:
        content = segment.content
        if not content:
            continue
        start = comment.find(content, after.get(content, 0))
        start = comment.find(content) if start < 0 else start
        if start >= 0:
            after[content] = start + len(content)
            spans.append(Span(start, start + len(content), segment.label))
    return spans


def measure_segmentation(answers: Sequence[VocAnswer], bootstrap: Bootstrap) -> Segmentation:
    """Compute how far predicted and gold segments are the same pieces of the comments.

    - `span_overlap`: characters under predicted segments against characters under gold segments, micro over all comments,
      whatever the labels say.
    - `labelled_span_overlap`: likewise for pairs of a character and a label: the right place with the wrong label is wrong.
    - `whole_segments`: segments with exactly the gold boundaries and label, each gold segment found at most once.

    Returns:
        For each `precision`, `recall`, `f1`, `intervals` (comments resampled), and for the overlaps `samples_f1`: the mean over
        comments of their own F1, 1 where neither side has a character.

    Source: Pavlopoulos, Sorensen, Laugier, Androutsopoulos, 2021, SemEval-2021 Task 5: Toxic Spans Detection (F1 of character
    offsets, per comment: `samples_f1`); Da San Martino, Yu, Barrón-Cedeño, Petrov, Nakov, 2019, Fine-Grained Analysis
    of Propaganda in News Articles (credit for partial overlap); Tjong Kim Sang, De Meulder, 2003, CoNLL-2003 (whole segments).
    """
    rows = [_compare_spans(answer) for answer in answers]
    measured: dict[str, SpanScores] = {}
    for place, name in enumerate(("span_overlap", "labelled_span_overlap", "whole_segments")):
        table = np.array([row[place] for row in rows], dtype=np.float64).reshape(-1, 3)
        measured[name] = _score_table(table, bootstrap)
        if name != "whole_segments":
            own = ratios(*table.T)[:, 2]
            own[table.sum(axis=1) == 0] = 1.0
            measured[name]["samples_f1"] = float(own.mean()) if len(own) else None
    return cast("Segmentation", measured)


def _score_table(table: FloatArray, bootstrap: Bootstrap) -> SpanScores:
    """Score true positives, false positives and false negatives per comment, (N, 3)."""
    resampled = ratios(*resample_sums(table, bootstrap).T)
    figures = to_figures(ratios(*table.sum(axis=0)[:, None])[0])
    return {**figures, "intervals": cast("TripleEnds", name_ends(resampled, bootstrap.confidence))}


Outcomes = tuple[int, int, int]


def _compare_spans(answer: VocAnswer) -> tuple[Outcomes, Outcomes, Outcomes]:
    comment = answer.record.comment
    predicted, gold = locate_segments(answer.segments, comment), locate_segments(answer.record.segments, comment)
    labelled = [{(at, span.label) for span in side for at in range(span.start, span.end)} for side in (predicted, gold)]
    plain = [{at for at, _ in side} for side in labelled]
    found = (Counter(predicted) & Counter(gold)).total()
    whole = (found, len(answer.segments) - found, len(answer.record.segments) - found)
    return _count_sets(*plain), _count_sets(*labelled), whole


def _count_sets(predicted: set[Any], gold: set[Any]) -> Outcomes:
    hits = len(predicted & gold)
    return hits, len(predicted) - hits, len(gold) - hits


def measure_coverage(answers: Sequence[VocAnswer]) -> dict[str, Share]:
    """Compute how far the segments of an answer are collectively exhaustive and mutually exclusive, and word for word.

    - `coverage`: characters of the gold segments that predicted segments cover (collectively exhaustive: 1).
    - `comment_coverage`: characters of the comments, white space aside, that predicted segments cover.
    - `gold_comment_coverage`: the same of the gold segments: what `comment_coverage` is to be held against.
    - `overlap`: characters under predicted segments that lie under more than one of them (mutually exclusive: 0).
    - `rewritten_content`: predicted segments whose content is not a verbatim piece of the comment.

    Returns:
        For each `{ratio, count, n}`, ratio None without a denominator.

    Source: the contract of the answer (segments are verbatim, mutually exclusive and collectively exhaustive).
    """
    counts: Counter[str] = Counter()
    for answer in answers:
        comment = answer.record.comment
        gold = _cover(locate_segments(answer.record.segments, comment)).keys()
        depth = _cover(locate_segments(answer.segments, comment))
        written = {at for at, character in enumerate(comment) if not character.isspace()}
        counts["gold"] += len(gold)
        counts["gold covered"] += len(gold & depth.keys())
        counts["written"] += len(written)
        counts["written covered"] += len(written & depth.keys())
        counts["written covered by gold"] += len(written & gold)
        counts["predicted"] += len(depth)
        counts["predicted twice"] += sum(times > 1 for times in depth.values())
        counts["segments"] += len(answer.segments)
        counts["rewritten"] += sum(not s.content or s.content not in comment for s in answer.segments)
    return {
        "coverage": share_of(counts["gold covered"], counts["gold"]),
        "comment_coverage": share_of(counts["written covered"], counts["written"]),
        "gold_comment_coverage": share_of(counts["written covered by gold"], counts["written"]),
        "overlap": share_of(counts["predicted twice"], counts["predicted"]),
        "rewritten_content": share_of(counts["rewritten"], counts["segments"]),
    }


def _cover(spans: Iterable[Span]) -> Counter[int]:
    """Count for each character how many spans lie over it."""
    return Counter(at for span in spans for at in range(span.start, span.end))
