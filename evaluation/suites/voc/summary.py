"""Everything that is measured on one model's VOC answers: labels, segments, emotions, and how well they keep to the contract.

Pure: it gets records, answers and what the training rows say, and returns what `results.json` holds under `voc`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

from evaluation.intervals import Bootstrap, share_of
from evaluation.results.figures import Share
from evaluation.results.gathered import LanguageScores, VocResults
from evaluation.suites.protocol import IMPORTED, MAX_EXAMPLES, ModelAnswers, cut_text
from evaluation.suites.voc.answers import VocAnswer, VocQuestions
from evaluation.suites.voc.confusion import measure_confusion
from evaluation.suites.voc.emotions import measure_emotion
from evaluation.suites.voc.label_counts import count_labels, count_levels
from evaluation.suites.voc.label_measures import LEAF, measure_labels
from evaluation.suites.voc.label_scores import score_level
from evaluation.suites.voc.resampling import bootstrap_scores
from evaluation.suites.voc.segments import measure_coverage, measure_segmentation
from evaluation.suites.voc.support import TrainingLabels, assign_buckets, collect_labels, measure_lookup_floor
from voc.labels.taxonomy import Taxonomy
from voc.records.checks import find_damage
from voc.run import Run

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
