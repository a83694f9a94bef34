"""Everything that is measured on one model's VOC answers: labels, segments, emotions, and how well they keep to the contract.

Pure: it gets records, answers and what the training rows say, and returns what `results.json` holds under `voc`. The label
figures know nothing of segments, so an answer read leniently, one read strictly and a part of the comments are scored alike.
Beside them stands what the training data alone explains, label support, head / torso / tail and the look-up floor, because a
score means little without: a model that only remembers which phrase had which label reaches the floor, and an average over
frequent labels hides the rare ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from evaluation.intervals import Bootstrap, share_of
from evaluation.results.figures import Share
from evaluation.results.gathered import BucketScores, LanguageScores, LevelScores, VocResults
from evaluation.suites.protocol import IMPORTED, MAX_EXAMPLES, ModelAnswers, cut_text
from evaluation.suites.voc.answers import VocAnswer, VocQuestions
from evaluation.suites.voc.label_scores import (
    IntArray,
    LabelCounts,
    LabelSets,
    count_labels,
    count_levels,
    list_label_scores,
    measure_confusion,
    score_hierarchy,
    score_level,
    sum_labels,
    to_figures,
)
from evaluation.suites.voc.resampling import bootstrap_levels, bootstrap_scores, score_group
from evaluation.suites.voc.segments import measure_coverage, measure_emotion, measure_segmentation
from voc.labels.taxonomy import LEVELS, LabelPath, Taxonomy
from voc.records.checks import find_damage
from voc.records.records import VocRecord
from voc.run import Run

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


UNKNOWN_LANGUAGE = "unknown"


def measure_suite(run: Run, questions: VocQuestions, answers: ModelAnswers, prompt_hash: str) -> VocResults:
    """Return what `results.json` holds under `voc`: every figure, how the comments were asked, and what that cost.

    Args:
        run: The run.
        questions: What was asked.
        answers: What one model answered.
        prompt_hash: Of the words that the comments were asked in; all that is known of a service's own evaluation.
    """
    lines, shards = answers.lines["voc"], answers.shards["voc"]
    config = run.config
    bootstrap = Bootstrap(config.evaluation.bootstrap_resamples, config.decision.confidence, config.seed)
    is_ours = prompt_hash == questions.prompt_hash
    usage = [line["usage"] for line in lines]
    results = {
        **measure_voc(questions.join(lines), questions.taxonomy, collect_labels(questions.training), bootstrap),
        "prompt": {"variant": config.prompt.variant if is_ours else IMPORTED, "hash": prompt_hash},
        "decoding": None if answers.entry.kind == IMPORTED else dict(questions.decoding),
        "lookup_floor": measure_lookup_floor(questions.training, questions.test),
        "usage": {
            "prompt_tokens": sum(u["prompt_tokens"] for u in usage),
            "completion_tokens": sum(u["completion_tokens"] for u in usage),
            "wall_s": max((float(m.facts.get("wall_s", 0)) for m in shards), default=0.0),
        },
        "finish_reasons": dict(sorted(Counter(line["finish_reason"] for line in lines).items())),
    }
    return cast("VocResults", results)


def pick_examples(questions: VocQuestions, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return up to two answers of each telling kind, the first ones in the order of the comments.

    Kinds: `voc_<failure>` for unreadable answers, `voc_wrong` for readable ones with no right label.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for answer, line in zip(questions.join(lines), lines, strict=True):
        kind = f"voc_{answer.failure}" if answer.failure else None
        if kind is None and answer.gold and not answer.gold & answer.predicted:
            kind = "voc_wrong"
        if kind:
            expected = "; ".join(sorted(" > ".join(label) for label in answer.gold)) or "no label"
            found.setdefault(kind, []).append(
                {
                    "kind": kind,
                    "suite": "voc",
                    "custom_id": line["custom_id"],
                    "question": answer.record.comment,
                    "expected": expected,
                    "text": cut_text(line["text"]),
                }
            )
    return [example for kind in sorted(found) for example in found[kind][:MAX_EXAMPLES]]


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
            "sibling_confusion": confusion["same_L3"],
        },
        "failures": dict(sorted(Counter(a.failure for a in answers if a.failure).items())),
        "repairs": dict(sorted(Counter(a.repair for a in answers if a.repair).items())),
        "languages": measure_languages(answers, bootstrap),
    }


def measure_rates(answers: Sequence[VocAnswer], taxonomy: Taxonomy, confidence: float) -> dict[str, Share]:
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

    def share_of_answers(count: int) -> Share:
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


def measure_languages(answers: Sequence[VocAnswer], bootstrap: Bootstrap) -> list[LanguageScores]:
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
    rows: list[dict[str, Any]] = []
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
    return cast("list[LanguageScores]", rows)
