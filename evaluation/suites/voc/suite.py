"""The Voice-of-Customer suite: every test comment is asked for its segments, labels and emotions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from evaluation.suites.protocol import (
    COMMAND_ARGUMENTS,
    IMPORTED,
    Gate,
    Metric,
    ModelAnswers,
    PlannedSuite,
    ReportPart,
    Suite,
    Value,
)
from voc.arguments import RUN_ARGUMENTS, Command, argument
from voc.config.night import NightforgeConfig
from voc.labels.taxonomy import LEVELS
from voc.run import ModelEntry, Run
from voc.store.manifest import Manifest

if TYPE_CHECKING:
    from evaluation.intervals import Bootstrap, PairedDifference
    from evaluation.items import Items
    from evaluation.suites.voc.answers import VocQuestions

VOC, FILE_NAME = "voc", "predictions.jsonl"
AVERAGES = ("micro", "macro", "weighted", "samples")
F1 = "f1"
PARSE_FAILURE = "parse_failure"
_IMPORTED_MODEL = argument("--model", required=True, help="name of an imported model in the run's models.json")
_OUTPUTS = argument("--file", required=True, help="path or URI of inference_output.jsonl")


class VocSuite(Suite):
    """One planned suite, which measures every kind of model: all that it needs is text."""

    name: ClassVar[str] = VOC
    commands: ClassVar[Mapping[str, Command]] = {
        "voc": Command(
            "evaluation.suites.voc.ask:run_suite",
            "ask a served model for the segments of the test comments",
            COMMAND_ARGUMENTS,
        ),
        "import-outputs": Command(
            "evaluation.suites.voc.import_outputs:run_import",
            "import the outputs of a closed service's evaluation",
            (*RUN_ARGUMENTS, _IMPORTED_MODEL, _OUTPUTS),
        ),
        "compare": Command(
            "evaluation.suites.voc.compare:run_compare",
            "compare two nights on the leaves that both taxonomies have",
            (
                *RUN_ARGUMENTS,
                argument("--with-run", required=True, help="id of the earlier run, in the same store"),
                argument(
                    "--changes", help="changes of the taxonomy (JSONL); default: the later run's data.taxonomy_changes"
                ),
                argument("--model", help="model of the later run; default: the one that won, or the only candidate"),
                argument(
                    "--with-model", help="model of the earlier run; default: --model if given, else as for --model"
                ),
                argument("--output", help="path or URI of a JSON file to write too"),
            ),
        ),
    }

    @property
    def report(self) -> ReportPart:
        """Its part of the report."""
        from evaluation.suites.voc.report import VocReport

        return VocReport()

    def plan(self, config: NightforgeConfig) -> tuple[PlannedSuite, ...]:
        """Return the one suite."""
        shards = config.evaluation.voc.shards
        kinds = frozenset(("vllm", "openai", "bedrock", IMPORTED))
        return (PlannedSuite(VOC, shards, "voc", file_name=FILE_NAME, kinds=kinds),)

    def list_metrics(self, config: NightforgeConfig, suite: str) -> Sequence[Metric]:
        """Return F1 over full label paths in its four averages, and the share of answers that cannot be read."""
        return (
            *(Metric(VOC, f"{average}_{F1}", interval="bootstrap") for average in AVERAGES),
            Metric(VOC, PARSE_FAILURE, higher_is_better=False, paired=False),
        )

    def list_gates(self, config: NightforgeConfig) -> Sequence[Gate]:
        """Return the gain that is wanted over every reference, and how many answers may be unreadable."""
        decision = config.decision
        average, gain, unreadable = decision.voc_average, decision.min_voc_gain, decision.max_parse_failure_ratio
        return (
            Gate(VOC, f"{average}_{F1}", f"VOC {average} F1 gain over", gain, ">", "references"),
            Gate(VOC, PARSE_FAILURE, "unreadable VOC answers", unreadable, "<=", None),
        )

    def warm_up(self, run: Run, model: str) -> None:
        """Let the engine compute what all prompts begin with, before the shards start together."""
        from evaluation.serving.endpoint import read_endpoint
        from evaluation.suites.voc.ask import prime_prompts

        endpoint = read_endpoint(run, model)
        if endpoint is not None:
            prime_prompts(run, endpoint)

    def import_answers(self, run: Run, entry: ModelEntry, uri: str) -> None:
        """Write a closed service's own outputs as finished shards."""
        from evaluation.suites.voc.import_outputs import import_outputs

        import_outputs(run, entry, uri)

    def load_questions(self, run: Run) -> VocQuestions:
        """Return taxonomy, test comments and what the training rows teach."""
        from evaluation.suites.voc.answers import load_questions

        return load_questions(run)

    def expect(
        self, questions: VocQuestions, suite: str, entry: ModelEntry, shards: Sequence[Manifest]
    ) -> Mapping[str, str]:
        """Return the prompt hash of every comment; imported answers were asked in the service's own words."""
        from evaluation.suites.voc.schema import check_decoding

        check_decoding(shards, questions.decoding, entry.name)
        return questions.expect_prompts(_find_prompt_hash(questions, entry, shards))

    def measure(self, run: Run, questions: VocQuestions, answers: ModelAnswers, base: ModelAnswers) -> dict[str, Any]:
        """Return every figure of the answers, and how they were asked for."""
        from evaluation.suites.voc.summary import measure_suite

        prompt_hash = _find_prompt_hash(questions, answers.entry, answers.shards[VOC])
        return {"voc": measure_suite(run, questions, answers, prompt_hash)}

    def pick_examples(self, questions: VocQuestions, answers: ModelAnswers) -> list[dict[str, Any]]:
        """Return answers that could not be read, by failure, and readable ones without a right label."""
        from evaluation.suites.voc.summary import pick_examples

        return pick_examples(questions, answers.lines[VOC])

    def list_items(self, questions: VocQuestions, answers: ModelAnswers) -> list[dict[str, Any]]:
        """Return gold and predicted label paths of every comment."""
        return [
            {
                "suite": VOC,
                **{name: line[name] for name in ("custom_id", "prompt_hash", "text", "failure", "strict")},
                "repair": answer.repair,
                "gold": [list(label) for label in sorted(answer.gold)],
                "predicted": [list(label) for label in sorted(answer.predicted)],
            }
            for answer, line in zip(questions.join(answers.lines[VOC]), answers.lines[VOC], strict=True)
        ]

    def read_value(self, suite: str, metric: str, results: Mapping[str, Any]) -> Value:
        """Return an F1 average, or the share of unreadable answers."""
        voc = results["voc"]
        if metric == PARSE_FAILURE:
            return Value.of_share(voc["rates"][PARSE_FAILURE])
        return Value(voc["levels"][LEVELS[-1]][metric.removesuffix(f"_{F1}")][F1], voc["num_items"])

    def compare(self, suite: str, metric: str, items: Items, other: Items, bootstrap: Bootstrap) -> PairedDifference:
        """Compare F1, comments paired."""
        from evaluation.suites.voc.label_scores import count_labels
        from evaluation.suites.voc.resampling import compare_f1

        average: Any = metric.removesuffix(f"_{F1}")
        counts = [count_labels(side.predicted, side.gold) for side in (items, other)]
        return compare_f1(counts[0], counts[1], average, bootstrap)


def _find_prompt_hash(questions: VocQuestions, entry: ModelEntry, shards: Sequence[Manifest]) -> str:
    if entry.kind == IMPORTED and shards:
        return str(shards[0].inputs["prompt_hash"])
    return questions.prompt_hash


SUITE = VocSuite()
