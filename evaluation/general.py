"""What is left of general ability: accuracy in two protocols, and what the difference between them means.

Log-likelihood scoring asks which letter the model finds most likely: *knowledge*, whatever the model would write.
Generative scoring reads what it writes, and is right only with the exact closing sentence: knowledge *and* form. Measured
on the same questions and subtracted, they tell lost knowledge from a lost format.

Pure. Source: Hendrycks et al., 2021, Measuring Massive Multitask Language Understanding (the questions; chance is 0.25).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.intervals import bootstrap_mean, paired_share_difference, share_of, wilson_interval

CHANCE = 0.25
Sample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GeneralAnswers:
    """One model's answers to the same questions in both protocols, in the same order.

    Attributes:
        log_likelihood: Lines of the log-likelihood suite.
        generative: Lines of the generative suite.
    """

    log_likelihood: Sequence[Sample]
    generative: Sequence[Sample]

    def is_known(self) -> list[bool]:
        """Tell for each question whether the right letter is the most likely one."""
        return [is_correct(sample) for sample in self.log_likelihood]

    def is_right(self) -> list[bool]:
        """Tell for each question whether the written answer is right, strictly read."""
        return [is_correct(sample) for sample in self.generative]


def is_correct(sample: Sample) -> bool:
    """Tell whether the protocol itself calls the answer right; generative: the closing sentence with the right letter."""
    return bool(sample["correct"])


def is_leniently_right(sample: Sample) -> bool:
    """Tell whether the letter that a lenient reading finds is the right one."""
    return bool(sample["lenient"] is not None and sample["lenient"] == sample["answer"])


def measure_general(answers: GeneralAnswers, *, confidence: float) -> dict[str, Any]:
    """Compute one model's own figures.

    - `log_likelihood`, `generative_strict`, `generative_lenient`: accuracy, overall, per slice and per subject.
    - `schema_leak`: generative answers that are VOC JSON or a fragment of it.
    - `extraction_failure`: generative answers without the closing sentence (they count as wrong).
    """
    generated = answers.generative
    return {
        "chance": CHANCE,
        "log_likelihood": measure_accuracy(answers.log_likelihood, is_correct, confidence),
        "generative_strict": measure_accuracy(generated, is_correct, confidence),
        "generative_lenient": measure_accuracy(generated, is_leniently_right, confidence),
        "schema_leak": share_of(sum(bool(s["schema_leak"]) for s in generated), len(generated), confidence),
        "extraction_failure": share_of(sum(s["strict"] is None for s in generated), len(generated), confidence),
    }


def measure_accuracy(
    samples: Sequence[Sample], is_right: Callable[[Sample], bool], confidence: float
) -> dict[str, Any]:
    """Compute an accuracy with its interval, per slice and per subject too.

    `below_chance` is set when the whole interval lies under 0.25: the model does not guess, it fails in a systematic way
    (most often in form, not in knowledge), and the figure must not be read as lost knowledge.
    """
    whole = _accuracy([is_right(sample) for sample in samples], confidence)
    return {
        **whole,
        "slices": _by(samples, "slice", is_right, confidence),
        "subjects": _by(samples, "subject", is_right, confidence),
    }


def _accuracy(right: Sequence[bool], confidence: float) -> dict[str, Any]:
    interval = wilson_interval(sum(right), len(right), confidence)
    return {
        "accuracy": sum(right) / len(right) if right else None,
        "n": len(right),
        "interval": [interval.low, interval.high],
        "below_chance": interval.high < CHANCE,
    }


def _by(
    samples: Iterable[Sample], key: str, is_right: Callable[[Sample], bool], confidence: float
) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        if sample[key] is not None:
            groups[sample[key]].append(is_right(sample))
    return {name: _accuracy(groups[name], confidence) for name in sorted(groups)}


def compare_general(
    candidate: GeneralAnswers, reference: GeneralAnswers, *, num_resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Compare a model with a reference on the same questions, item by item.

    - `knowledge_change`: log-likelihood accuracy, candidate minus reference.
    - `generative_change`: strict generative accuracy, candidate minus reference.
    - `format_tax`: knowledge_change - generative_change. What the candidate lost in writing beyond what it lost in
      knowledge: (LL - generative) of the candidate minus (LL - generative) of the reference. 0: no format was lost;
      0.75: three of four answers are known but no longer given in the asked form.

    Returns:
        For each, value, low, high, n; for the first two also gained, lost and McNemar's exact p-value.
    """
    known = candidate.is_known(), reference.is_known()
    right = candidate.is_right(), reference.is_right()
    tax = [
        (int(k) - int(r)) - (int(k_ref) - int(r_ref))
        for k, r, k_ref, r_ref in zip(known[0], right[0], known[1], right[1], strict=True)
    ]
    interval = bootstrap_mean(tax, num_resamples=num_resamples, confidence=confidence, seed=seed)
    return {
        "knowledge_change": paired_share_difference(*known, confidence).to_json(),
        "generative_change": paired_share_difference(*right, confidence).to_json(),
        "format_tax": {"value": sum(tax) / len(tax), "low": interval.low, "high": interval.high, "n": len(tax)},
    }
