"""Everything that is measured on one model's VOC answers: labels, segments, emotions, and how well they keep to the contract.

Pure: it gets records, answers and what the training rows say, and returns what `results.json` holds under `voc`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from evaluation.intervals import share_of
from evaluation.suites.voc.answers import VocAnswer
from evaluation.suites.voc.confusion import KINDS, measure_confusion
from evaluation.suites.voc.emotions import measure_emotion
from evaluation.suites.voc.label_counts import count_labels, count_levels
from evaluation.suites.voc.label_measures import LEAF, measure_labels
from evaluation.suites.voc.label_scores import score_level
from evaluation.suites.voc.resampling import Bootstrap, bootstrap_scores
from evaluation.suites.voc.segments import measure_coverage, measure_segmentation
from evaluation.suites.voc.support import TrainingLabels, assign_buckets
from voc.labels.taxonomy import LEVELS, Taxonomy
from voc.records.checks import find_damage

UNKNOWN_LANGUAGE = "unknown"


def measure_voc(
    answers: Sequence[VocAnswer], taxonomy: Taxonomy, training: TrainingLabels, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Compute every VOC figure of one model.

    The label figures at the top are those of the lenient parse; `strict` has the same of the strict one, where an answer that
    needed a repair says nothing. Both are the same numbers where nothing was repaired.

    Args:
        answers: One per test comment, in the order of the test file.
        taxonomy: The labels that exist.
        training: Labels and emotions of the rows that were trained on.
        bootstrap: Resamples, confidence and seed of the intervals.
    """
    gold = [a.gold for a in answers]
    buckets = assign_buckets(taxonomy, training.support)
    confusion = measure_confusion(answers)
    emotion = measure_emotion(answers, training.emotions, bootstrap)
    strict = count_levels([a.predicted_strictly for a in answers], gold)
    return {
        "num_items": len(answers),
        "confidence": bootstrap.confidence,
        **measure_labels([a.predicted for a in answers], gold, buckets, training.support, bootstrap),
        "strict": {
            "levels": {name: score_level(counts) for name, counts in strict.items()},
            "intervals": bootstrap_scores(strict[LEAF], bootstrap),
        },
        "segmentation": measure_segmentation(answers, bootstrap),
        "confusion": confusion,
        "emotion": emotion,
        "rates": {
            **measure_rates(answers, taxonomy, bootstrap.confidence),
            **measure_coverage(answers),
            "unknown_emotion": emotion["unknown"],
            "sibling_confusion": confusion[KINDS[len(LEVELS) - 1]],
        },
        "failures": dict(sorted(Counter(a.failure for a in answers if a.failure).items())),
        "repairs": dict(sorted(Counter(a.repair for a in answers if a.repair).items())),
        "languages": measure_languages(answers, bootstrap),
    }


def measure_rates(answers: Sequence[VocAnswer], taxonomy: Taxonomy, confidence: float) -> dict[str, Any]:
    """Compute how well the answers keep to the contract.

    - `parse_failure`: answers that even the lenient parse gives up on; `failures` has their names.
    - `strict_failure`: answers that are not, as a whole, the list that was asked for.
    - `repaired`: answers that the lenient parse could read and the strict one could not; `repairs` has what was looked past.
    - `invented_label`: predicted segments whose path is not in the taxonomy.
    - `repeated_segment`: predicted segments that an earlier one of the same answer equals in content and label.
    - `damaged_text`: readable answers with replacement or control characters or a wrong encoding, not counting what
      the comment itself has.
    - `segments_per_expected`: predicted segments over gold segments.

    Returns:
        For each share `{ratio, count, n}` (ratio None without a denominator), those over answers with a Wilson interval.

    Source: the contract of the answer; intervals as Wilson, 1927.
    """
    segments = [segment for answer in answers for segment in answer.segments]
    distinct = sum(len({(s.content, s.label) for s in answer.segments}) for answer in answers)
    num_gold = sum(len(answer.record.segments) for answer in answers)

    def share_of_answers(count: int) -> dict[str, Any]:
        return share_of(count, len(answers), confidence)

    return {
        "parse_failure": share_of_answers(sum(a.failure is not None for a in answers)),
        "strict_failure": share_of_answers(sum(not a.strict for a in answers)),
        "repaired": share_of_answers(sum(not a.strict and a.failure is None for a in answers)),
        "damaged_text": share_of_answers(sum(_is_damaged(a, taxonomy) for a in answers)),
        "invented_label": share_of(sum(s.label not in taxonomy.paths for s in segments), len(segments)),
        "repeated_segment": share_of(len(segments) - distinct, len(segments)),
        "segments_per_expected": share_of(len(segments), num_gold),
    }


def _is_damaged(answer: VocAnswer, taxonomy: Taxonomy) -> bool:
    comment = answer.record.comment
    texts = [text for s in answer.segments for text in (s.content, s.emotion) if text not in comment]
    texts += [name for s in answer.segments if s.label not in taxonomy.paths for name in s.label]
    return any(find_damage(text) is not None for text in texts)


def measure_languages(answers: Sequence[VocAnswer], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Score the comments of each language on their own, the most frequent language first.

    The language is the record's `lang`; without one it is `unknown`. Macro and weighted averages are over the labels that
    occur in that language's gold, so they are not comparable between languages; `micro` and `samples` are.

    Returns:
        Rows of `language`, `num_items`, the averages at the full path as `score_level` gives them, `intervals`, and the share of
        unreadable answers.
    """
    groups: dict[str, list[VocAnswer]] = defaultdict(list)
    for answer in answers:
        groups[answer.record.extra.get("lang") or UNKNOWN_LANGUAGE].append(answer)
    rows = []
    for name, found in sorted(groups.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        counts = count_labels([a.predicted for a in found], [a.gold for a in found])
        rows.append(
            {
                "language": name,
                "num_items": len(found),
                **score_level(counts),
                "intervals": bootstrap_scores(counts, bootstrap),
                "parse_failure": share_of(sum(a.failure is not None for a in found), len(found), bootstrap.confidence),
            }
        )
    return rows
