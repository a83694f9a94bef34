"""Everything that is measured on one model's VOC answers: label scores, and how well the answers keep to the contract.

Pure: it gets records, answers and training segments, and returns what `results.json` holds under `voc`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.intervals import share_of
from evaluation.metrics import (
    bootstrap_scores,
    count_labels,
    cut_paths,
    score_hierarchy,
    score_level,
    to_figures,
)
from evaluation.training_support import score_buckets
from voc.records import Segment, VocRecord
from voc.taxonomy import LEVELS, LabelPath, Taxonomy


@dataclass(frozen=True, slots=True)
class VocAnswer:
    """What a model said about one test comment.

    Attributes:
        record: The comment with its gold segments.
        segments: Predicted segments, none after a failure.
        failure: Why the answer could not be read, or None.
        strict: Whether the whole answer was the list that was asked for.
    """

    record: VocRecord
    segments: tuple[Segment, ...]
    failure: str | None
    strict: bool

    @property
    def predicted(self) -> frozenset[LabelPath]:
        """The set of predicted label paths."""
        return frozenset(segment.label for segment in self.segments)

    @property
    def gold(self) -> frozenset[LabelPath]:
        """The set of gold label paths."""
        return frozenset(segment.label for segment in self.record.segments)


def measure_voc(
    answers: Sequence[VocAnswer],
    taxonomy: Taxonomy,
    training_support: Mapping[LabelPath, int],
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Compute every VOC figure of one model.

    Args:
        answers: One per test comment, in the order of the test file.
        taxonomy: The labels that exist.
        training_support: Training comments per label.
        num_resamples: Bootstrap resamples behind the intervals.
        confidence: Two-sided confidence of the intervals.
        seed: Seed of the resampling.
    """
    predicted, gold = [a.predicted for a in answers], [a.gold for a in answers]
    levels = {name: count_labels(predicted, gold, depth) for depth, name in enumerate(LEVELS, start=1)}
    leaf = levels[LEVELS[-1]]
    return {
        "num_items": len(answers),
        "confidence": confidence,
        "levels": {name: score_level(counts) for name, counts in levels.items()},
        "intervals": bootstrap_scores(leaf, num_resamples=num_resamples, confidence=confidence, seed=seed),
        "hierarchical": to_figures(score_hierarchy(predicted, gold)),
        "emotion": measure_emotion(answers),
        "rates": measure_rates(answers, taxonomy, confidence),
        "failures": dict(sorted(Counter(a.failure for a in answers if a.failure).items())),
        "buckets": score_buckets(predicted, gold, taxonomy, training_support),
    }


def measure_emotion(answers: Sequence[VocAnswer]) -> dict[str, float | int | None]:
    """Compute emotion accuracy: of the (comment, full path) pairs that are in gold and were predicted, the share whose
    set of emotions is the same. A wrong label is not counted again as a wrong emotion.

    Returns:
        `accuracy` (None without such a pair) and `num_pairs`.
    """
    right = total = 0
    for answer in answers:
        expected, seen = _emotions(answer.record.segments), _emotions(answer.segments)
        shared = expected.keys() & seen.keys()
        total += len(shared)
        right += sum(expected[label] == seen[label] for label in shared)
    return {"accuracy": right / total if total else None, "num_pairs": total}


def _emotions(segments: Iterable[Segment]) -> dict[LabelPath, set[str]]:
    found: dict[LabelPath, set[str]] = defaultdict(set)
    for segment in segments:
        found[segment.label].add(segment.emotion)
    return dict(found)


def measure_rates(answers: Sequence[VocAnswer], taxonomy: Taxonomy, confidence: float) -> dict[str, Any]:
    """Compute how well the answers keep to the contract.

    - `parse_failure`: answers that even the lenient reading (a JSON list inside fences or prose) gives up on.
    - `strict_failure`: answers that are not, as a whole, the list that was asked for.
    - `invented_label`: predicted segments whose path is not in the taxonomy.
    - `rewritten_content`: predicted segments whose content is not a verbatim piece of the comment.
    - `coverage`: characters of the gold segments that predicted segments cover (collectively exhaustive: 1).
    - `overlap`: characters under predicted segments that lie under more than one of them (mutually exclusive: 0).
    - `segments_per_expected`: predicted segments over gold segments.
    - `sibling_confusion`: wrong full paths that share L1 to L3 with a gold path of the comment that was missed.

    Returns:
        For each share `{ratio, count, n}` (ratio None without a denominator), the first two with an interval.
    """
    segments = [(segment, answer.record.comment) for answer in answers for segment in answer.segments]
    spans = [_count_spans(answer) for answer in answers]
    gold_characters, covered, predicted_characters, doubled = (sum(column) for column in zip(*spans, strict=True))
    wrong, siblings = _count_siblings(answers)
    num_gold = sum(len(answer.record.segments) for answer in answers)
    return {
        "parse_failure": share_of(sum(a.failure is not None for a in answers), len(answers), confidence),
        "strict_failure": share_of(sum(not a.strict for a in answers), len(answers), confidence),
        "invented_label": share_of(sum(s.label not in taxonomy.paths for s, _ in segments), len(segments)),
        "rewritten_content": share_of(sum(not s.content or s.content not in c for s, c in segments), len(segments)),
        "coverage": share_of(covered, gold_characters),
        "overlap": share_of(doubled, predicted_characters),
        "segments_per_expected": share_of(len(segments), num_gold),
        "sibling_confusion": share_of(siblings, wrong),
    }


def _count_spans(answer: VocAnswer) -> tuple[int, int, int, int]:
    """Count gold characters, those covered, predicted characters, and those predicted more than once."""
    comment = answer.record.comment
    gold = set(_locate((s.content for s in answer.record.segments), comment))
    depth = Counter(_locate((s.content for s in answer.segments), comment))
    return len(gold), len(gold & depth.keys()), len(depth), sum(times > 1 for times in depth.values())


def _locate(contents: Iterable[str], comment: str) -> list[int]:
    """Return the character positions of each content; a repeated one takes the next occurrence while there is one."""
    positions: list[int] = []
    after: dict[str, int] = {}
    for content in contents:
        if not content:
            continue
        start = comment.find(content, after.get(content, 0))
        start = comment.find(content) if start < 0 else start
        if start >= 0:
            positions += range(start, start + len(content))
            after[content] = start + len(content)
    return positions


def _count_siblings(answers: Sequence[VocAnswer]) -> tuple[int, int]:
    wrong = siblings = 0
    for answer in answers:
        missed = cut_paths(answer.gold - answer.predicted, len(LEVELS) - 1)
        extra = answer.predicted - answer.gold
        wrong += len(extra)
        siblings += sum(label[:-1] in missed for label in extra)
    return wrong, siblings
