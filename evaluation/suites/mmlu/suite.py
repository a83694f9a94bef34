"""MMLU: the same multiple-choice questions in three protocols, each a suite of its own, on the machinery of `lm_eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from evaluation.suites.protocol import (
    COMMAND_ARGUMENTS,
    Gate,
    Metric,
    ModelAnswers,
    PlannedSuite,
    PreflightCheck,
    ReportPart,
    Suite,
    Value,
)
from voc.arguments import Command, argument
from voc.config.night import NightforgeConfig
from voc.preflight.checks import check_mmlu
from voc.run import ModelEntry, ModelKind, Run
from voc.store.manifest import Manifest

if TYPE_CHECKING:
    from evaluation.intervals import Bootstrap, PairedDifference
    from evaluation.items import Items
    from evaluation.suites.mmlu.general import MmluQuestions

PROTOCOLS = ("log_likelihood", "generative", "letter")
LOG_LIKELIHOOD, GENERATIVE, LETTER = (f"mmlu_{protocol}" for protocol in PROTOCOLS)
# Of each suite: who can be asked so (a closed model scores no given tokens and takes no list of allowed answers), the reading
# that it gives, and what items keep of a line beside what all of them have.
KINDS: dict[str, frozenset[ModelKind]] = {
    LOG_LIKELIHOOD: frozenset(("vllm",)),
    GENERATIVE: frozenset(("vllm", "openai", "bedrock")),
    LETTER: frozenset(("vllm",)),
}
READINGS = {LOG_LIKELIHOOD: "log_likelihood", GENERATIVE: "generative_strict", LETTER: "letter_constrained"}
_SHARED_COLUMNS = ("custom_id", "prompt_hash", "subject", "slice", "answer", "correct")
_COLUMNS = {LOG_LIKELIHOOD: (), GENERATIVE: ("text", "schema_leak", "kind"), LETTER: ("text",)}
ACCURACY, SCHEMA_LEAK = "accuracy", "schema_leak"
_PROTOCOL = argument(
    "--protocol", required=True, choices=PROTOCOLS, help="score letters, read answers, or allow one letter only"
)


class MmluSuite(Suite):
    """Three planned suites of the same questions."""

    name: ClassVar[str] = "mmlu"
    commands: ClassVar[Mapping[str, Command]] = {
        "mmlu": Command(
            "evaluation.suites.mmlu.ask:run_suite",
            "ask a served model multiple-choice questions",
            (*COMMAND_ARGUMENTS, _PROTOCOL),
        ),
    }

    @property
    def report(self) -> ReportPart:
        """Its part of the report."""
        from evaluation.suites.mmlu.report import MmluReport

        return MmluReport()

    def plan(self, config: NightforgeConfig) -> tuple[PlannedSuite, ...]:
        """Return one suite per protocol."""
        shards = config.evaluation.mmlu.shards
        return tuple(
            PlannedSuite(suite, shards, "mmlu", ("--protocol", protocol), kinds=KINDS[suite])
            for suite, protocol in zip(KINDS, PROTOCOLS, strict=True)
        )

    def list_checks(self, config: NightforgeConfig) -> Sequence[PreflightCheck]:
        """Look for the data set."""
        return [("evaluation.mmlu.dataset", check_mmlu, (config.evaluation.mmlu.dataset,))]

    def list_metrics(self, config: NightforgeConfig, suite: str) -> Sequence[Metric]:
        """Return the accuracy of a protocol, and the share of written answers that are VOC JSON."""
        leak = Metric(suite, SCHEMA_LEAK, higher_is_better=False, paired=False)
        return (Metric(suite, ACCURACY), *([leak] if suite == GENERATIVE else []))

    def list_gates(self, config: NightforgeConfig) -> Sequence[Gate]:
        """Return how much accuracy may be lost in two protocols, and how many answers may be VOC JSON."""
        drop, leaks = config.decision.max_general_drop, config.decision.max_schema_leak_ratio
        return (
            Gate(LOG_LIKELIHOOD, ACCURACY, "log-likelihood accuracy against", -drop, ">=", "base"),
            Gate(GENERATIVE, ACCURACY, "strict generative accuracy against", -drop, ">=", "base"),
            Gate(GENERATIVE, SCHEMA_LEAK, "schema leaks", leaks, "<=", None),
        )

    def load_questions(self, run: Run) -> MmluQuestions:
        """Return the questions and the hashes of their prompts."""
        from evaluation.suites.mmlu.general import load_questions

        return load_questions(run.config.evaluation.mmlu)

    def expect(
        self, questions: MmluQuestions, suite: str, entry: ModelEntry, shards: Sequence[Manifest]
    ) -> Mapping[str, str]:
        """Return the prompt hash of every question in the words of one protocol."""
        return questions.expected[suite]

    def list_problems(self, config: NightforgeConfig, answers: Sequence[ModelAnswers]) -> list[str]:
        """Return whether log-likelihoods were got in different ways."""
        from evaluation.suites.lm_eval.scoring import list_scoring_problems

        lines = {each.entry.name: each.lines[LOG_LIKELIHOOD] for each in answers}
        ways = {name: [str(line["scoring"]) for line in found] for name, found in lines.items() if found}
        return list_scoring_problems(ways, LOG_LIKELIHOOD, "evaluation.mmlu.scoring")

    def measure(self, run: Run, questions: MmluQuestions, answers: ModelAnswers, base: ModelAnswers) -> dict[str, Any]:
        """Return the readings, and what they say about the kind of loss against the base."""
        from evaluation.suites.mmlu.decomposition import measure_suite

        return {"general": measure_suite(run, questions, answers, base)}

    def pick_examples(self, questions: MmluQuestions, answers: ModelAnswers) -> list[dict[str, Any]]:
        """Return leaks, answers without the closing sentence, and wrong ones."""
        from evaluation.suites.mmlu.decomposition import pick_examples

        return pick_examples(questions.items, answers.lines[GENERATIVE]) if answers.lines[GENERATIVE] else []

    def list_items(self, questions: MmluQuestions, answers: ModelAnswers) -> list[dict[str, Any]]:
        """Return right or wrong of every question and protocol."""
        return [
            {"suite": suite, **{name: line[name] for name in (*_SHARED_COLUMNS, *names)}}
            for suite, names in _COLUMNS.items()
            for line in answers.lines[suite]
        ]

    def read_value(self, suite: str, metric: str, results: Mapping[str, Any]) -> Value:
        """Return the share of leaks, or a protocol's accuracy."""
        general = results["general"]
        if metric == SCHEMA_LEAK:
            return Value.of_share(general[SCHEMA_LEAK])
        reading = general[READINGS[suite]]
        return Value(reading["accuracy"], reading["n"])

    def compare(self, suite: str, metric: str, items: Items, other: Items, bootstrap: Bootstrap) -> PairedDifference:
        """Compare accuracies, questions paired."""
        from evaluation.intervals import paired_share_difference

        return paired_share_difference(items.correct[suite], other.correct[suite], bootstrap.confidence)


SUITE = MmluSuite()
