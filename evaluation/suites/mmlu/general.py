"""What is left of general ability: accuracy of the same questions in four readings.

- *Log-likelihood*: which letter does the model find most likely? Knowledge, whatever the model would write.
- *Generative, strict*: the study's protocol; right only with the exact closing sentence. Knowledge and form.
- *Generative, lenient*: the same text, usual other forms accepted.
- *Letter*: the chat with the form given; the model may write one letter only.

What their differences mean is in `evaluation.suites.mmlu.decomposition`.

Pure but for the questions.

Source: Hendrycks et al., 2021, Measuring Massive Multitask Language Understanding (the questions; chance is 0.25; the
four groups of subjects are appendix B's, in the assignment that lm-eval's group `mmlu` uses; a test compares them).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from evaluation.intervals import (
    bonferroni_confidence,
    bootstrap_mean,
    paired_share_difference,
    share_of,
    wilson_interval,
)
from evaluation.results.gathered import Accuracy, AccuracyPart, GeneralChanges
from evaluation.suites.lm_eval.scoring import list_scoring_problems
from evaluation.suites.mmlu.protocols import PROTOCOLS, hash_questions, make_asking, suite_of
from voc.config.night import MmluSuiteConfig
from voc.errors import CoverageError
from voc.mmlu import MmluItem, load_mmlu

GROUPS: dict[str, tuple[str, ...]] = {
    "stem": (
        "abstract_algebra",
        "anatomy",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    ),
    "humanities": (
        "formal_logic",
        "high_school_european_history",
        "high_school_us_history",
        "high_school_world_history",
        "international_law",
        "jurisprudence",
        "logical_fallacies",
        "moral_disputes",
        "moral_scenarios",
        "philosophy",
        "prehistory",
        "professional_law",
        "world_religions",
    ),
    "social_sciences": (
        "econometrics",
        "high_school_geography",
        "high_school_government_and_politics",
        "high_school_macroeconomics",
        "high_school_microeconomics",
        "high_school_psychology",
        "human_sexuality",
        "professional_psychology",
        "public_relations",
        "security_studies",
        "sociology",
        "us_foreign_policy",
    ),
    "other": (
        "business_ethics",
        "clinical_knowledge",
        "college_medicine",
        "global_facts",
        "human_aging",
        "management",
        "marketing",
        "medical_genetics",
        "miscellaneous",
        "nutrition",
        "professional_accounting",
        "professional_medicine",
        "virology",
    ),
}
_GROUP_OF = {subject: group for group, subjects in GROUPS.items() for subject in subjects}


def find_group(subject: str) -> str | None:
    """Return the group of a subject, or None for a data set with subjects of its own."""
    return _GROUP_OF.get(subject.replace(" ", "_"))


CHANCE = 0.25
Sample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MmluQuestions:
    """What every model is asked.

    Attributes:
        items: The questions, after `limit`.
        expected: Per planned suite, the prompt hash of every item id.
    """

    items: tuple[MmluItem, ...]
    expected: Mapping[str, Mapping[str, str]]


def load_questions(suite: MmluSuiteConfig) -> MmluQuestions:
    """Read the questions of a configuration."""
    items = tuple(load_mmlu(suite.dataset, suite.limit))
    return MmluQuestions(items, {suite_of(p): hash_questions(make_asking(p, suite), items) for p in PROTOCOLS})


@dataclass(frozen=True, slots=True)
class GeneralAnswers:
    """One model's answers to the same questions in every protocol, in the same order.

    Attributes:
        log_likelihood: Lines of the log-likelihood suite.
        generative: Lines of the generative suite.
        letter: Lines of the letter-constrained suite.
    """

    log_likelihood: Sequence[Sample]
    generative: Sequence[Sample]
    letter: Sequence[Sample]

    def is_known(self) -> list[bool]:
        """Tell for each question whether the right letter is the most likely one."""
        return [is_correct(sample) for sample in self.log_likelihood]

    def is_right(self) -> list[bool]:
        """Tell for each question whether the written answer is right, strictly read."""
        return [is_correct(sample) for sample in self.generative]

    def ways_of_scoring(self) -> list[str]:
        """Return the way in which each question's log-likelihoods were got."""
        return [str(sample["scoring"]) for sample in self.log_likelihood]


def is_correct(sample: Sample) -> bool:
    """Tell whether the protocol itself calls the answer right; generative: the closing sentence with the right letter."""
    return bool(sample["correct"])


def is_leniently_right(sample: Sample) -> bool:
    """Tell whether the letter that a lenient reading finds is the right one."""
    return bool(sample["lenient"] is not None and sample["lenient"] == sample["answer"])


def measure_general(answers: GeneralAnswers, *, confidence: float) -> dict[str, Any]:
    """Compute one model's own figures.

    - `log_likelihood`, `generative_strict`, `generative_lenient`, `letter_constrained`: accuracy, overall, per slice, per
      group of MMLU and per subject.
    - `schema_leak`: generative answers that are VOC JSON, a fragment of it, or carry its keys.
    - `extraction_failure`: generative answers without the closing sentence (they count as wrong).
    - `refusal`: generative answers that decline; `truncated`: those that reached their longest length.
    - `answer_kinds`: how many generative answers are of each kind; every answer is of exactly one.
    - `scoring`: the way in which log-likelihoods were got.
    """
    return {
        **measure_written(answers.generative, confidence=confidence),
        "log_likelihood": measure_accuracy(answers.log_likelihood, is_correct, confidence),
        "letter_constrained": measure_accuracy(answers.letter, is_correct, confidence),
        "scoring": sorted(set(answers.ways_of_scoring())),
    }


def measure_written(generated: Sequence[Sample], *, confidence: float) -> dict[str, Any]:
    """Compute the figures of generative answers alone, by the names of `measure_general`: all that a closed model shows."""
    rates = {
        "schema_leak": sum(bool(s["schema_leak"]) for s in generated),
        "extraction_failure": sum(s["strict"] is None for s in generated),
        "refusal": sum(bool(s["refusal"]) for s in generated),
        "truncated": sum(bool(s["cut"]) for s in generated),
    }
    return {
        "chance": CHANCE,
        "generative_strict": measure_accuracy(generated, is_correct, confidence),
        "generative_lenient": measure_accuracy(generated, is_leniently_right, confidence),
        **{name: share_of(count, len(generated), confidence) for name, count in rates.items()},
        "answer_kinds": dict(sorted(Counter(str(s["kind"]) for s in generated).items())),
    }


def measure_accuracy(samples: Sequence[Sample], is_right: Callable[[Sample], bool], confidence: float) -> Accuracy:
    """Compute an accuracy with its interval, per slice, group and subject too.

    `below_chance` is set when the whole interval lies under 0.25: the model does not guess, it fails in a systematic way
    (most often in form, not in knowledge), and the figure must not be read as lost knowledge. The intervals of parts are
    widened (Bonferroni), so that 57 subjects do not raise an alarm by luck.
    """
    whole = _accuracy([is_right(sample) for sample in samples], confidence)
    return {
        **whole,
        "slices": _by(samples, lambda s: s["slice"], is_right, confidence),
        "groups": _by(samples, lambda s: find_group(s["subject"]), is_right, confidence),
        "subjects": _by(samples, lambda s: s["subject"], is_right, confidence),
    }


def _accuracy(right: Sequence[bool], confidence: float) -> AccuracyPart:
    interval = wilson_interval(sum(right), len(right), confidence)
    return {
        "accuracy": sum(right) / len(right) if right else None,
        "n": len(right),
        "interval": [interval.low, interval.high],
        "below_chance": interval.high < CHANCE,
    }


def _by(
    samples: Iterable[Sample],
    name_part: Callable[[Sample], str | None],
    is_right: Callable[[Sample], bool],
    confidence: float,
) -> dict[str, AccuracyPart]:
    parts: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        name = name_part(sample)
        if name is not None:
            parts[name].append(is_right(sample))
    each = bonferroni_confidence(confidence, len(parts))
    return {name: _accuracy(parts[name], each) for name in sorted(parts)}


def compare_general(
    candidate: GeneralAnswers, reference: GeneralAnswers, *, num_resamples: int, confidence: float, seed: int
) -> GeneralChanges:
    """Compare a model with a reference on the same questions, item by item.

    - `knowledge_change`: log-likelihood accuracy, candidate minus reference.
    - `generative_change`, `lenient_change`, `letter_change`: the same for the other readings.
    - `extraction_failure_change`, `schema_leak_change`, `refusal_change`, `truncated_change`: shares of generative answers.
    - `format_tax`: knowledge_change - generative_change. What the candidate lost in writing beyond what it lost in
      knowledge: (LL - generative) of the candidate minus (LL - generative) of the reference. 0: no format was lost;
      0.75: three of four answers are known but no longer given in the asked form.

    Returns:
        For each, value, low, high, n; for all but the tax also gained, lost and McNemar's exact p-value.

    Raises:
        CoverageError: If the two were scored in different ways.
    """
    problems = list_scoring_problems(
        {"candidate": candidate.ways_of_scoring(), "reference": reference.ways_of_scoring()},
        "mmlu_log_likelihood",
        "evaluation.mmlu.scoring",
    )
    if problems:
        raise CoverageError(problems[0])
    known = candidate.is_known(), reference.is_known()
    right = candidate.is_right(), reference.is_right()
    tax = [
        (int(k) - int(r)) - (int(k_ref) - int(r_ref))
        for k, r, k_ref, r_ref in zip(known[0], right[0], known[1], right[1], strict=True)
    ]
    interval = bootstrap_mean(tax, num_resamples=num_resamples, confidence=confidence, seed=seed)
    texts = candidate.generative, reference.generative
    pairs: dict[str, tuple[list[bool], list[bool]]] = {
        "knowledge_change": known,
        "generative_change": right,
        "lenient_change": _pair(texts, is_leniently_right),
        "letter_change": _pair((candidate.letter, reference.letter), is_correct),
        "extraction_failure_change": _pair(texts, lambda s: s["strict"] is None),
        "schema_leak_change": _pair(texts, lambda s: bool(s["schema_leak"])),
        "refusal_change": _pair(texts, lambda s: bool(s["refusal"])),
        "truncated_change": _pair(texts, lambda s: bool(s["cut"])),
    }
    changes: dict[str, Any] = {
        name: paired_share_difference(*pair, confidence).to_json() for name, pair in pairs.items()
    }
    changes["format_tax"] = {"value": sum(tax) / len(tax), "low": interval.low, "high": interval.high, "n": len(tax)}
    return cast("GeneralChanges", changes)


def _pair(
    samples: tuple[Sequence[Sample], Sequence[Sample]], holds: Callable[[Sample], bool]
) -> tuple[list[bool], list[bool]]:
    return [holds(s) for s in samples[0]], [holds(s) for s in samples[1]]
