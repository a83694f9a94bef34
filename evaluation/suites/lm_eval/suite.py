"""lm-eval tasks that the configuration names, IFEval or any other: each is a suite of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from evaluation.suites.protocol import (
    COMMAND_ARGUMENTS,
    Metric,
    ModelAnswers,
    PlannedSuite,
    PreflightCheck,
    ReportPart,
    Suite,
    Value,
)
from voc.arguments import Command, argument
from voc.config.night import LmEvalTaskConfig, NightforgeConfig
from voc.preflight.checks import check_lm_eval_task
from voc.run import ModelEntry, Run
from voc.store.manifest import Manifest

PREFIX = "lm_eval_"
_TASK = argument("--task", required=True, help="name of one of evaluation.lm_eval_tasks")


class LmEvalSuite(Suite):
    """One planned suite per task of `evaluation.lm_eval_tasks`, for models that are served from their weights here."""

    name: ClassVar[str] = "lm_eval"
    commands: ClassVar[Mapping[str, Command]] = {
        "lm-eval": Command(
            "evaluation.suites.lm_eval.ask:run_suite",
            "ask a served model the questions of an lm-eval task",
            (*COMMAND_ARGUMENTS, _TASK),
        ),
    }

    @property
    def report(self) -> ReportPart:
        """Its part of the report."""
        from evaluation.suites.lm_eval.report import LmEvalReport

        return LmEvalReport()

    def plan(self, config: NightforgeConfig) -> tuple[PlannedSuite, ...]:
        """Return one suite per task."""
        return tuple(
            PlannedSuite(f"{PREFIX}{task.name}", task.shards, "lm-eval", ("--task", task.name))
            for task in config.evaluation.lm_eval_tasks
        )

    def list_checks(self, config: NightforgeConfig) -> Sequence[PreflightCheck]:
        """Look for the files that the tasks name."""
        longest = config.serving.max_model_len
        return [
            (f"evaluation.lm_eval_tasks.{task.name}", check_lm_eval_task, (task, longest))
            for task in config.evaluation.lm_eval_tasks
        ]

    def list_metrics(self, config: NightforgeConfig, suite: str) -> Sequence[Metric] | None:
        """Return None: lm-eval knows, which only the shards import; they refuse an unknown one before they ask."""
        return None

    def expect(
        self, questions: None, suite: str, entry: ModelEntry, shards: Sequence[Manifest]
    ) -> Mapping[str, str] | None:
        """Return None: which questions there are is in the base's shards."""
        return None

    def list_problems(self, config: NightforgeConfig, answers: Sequence[ModelAnswers]) -> list[str]:
        """Compare every model's questions with the base's, and how they were scored."""
        from evaluation.suites.lm_eval.results import list_task_problems

        problems = []
        for suite in self.plan(config):
            served = [each for each in answers if suite.measures(each.entry)]
            shards = served[0].shards[suite.name]
            if shards:
                lines = {each.entry.name: each.lines[suite.name] for each in served}
                problems += list_task_problems(suite.name, shards[0].facts["num_docs"], lines, served[0].entry.name)
        return problems

    def measure(self, run: Run, questions: None, answers: ModelAnswers, base: ModelAnswers) -> dict[str, Any]:
        """Return the figures of every task."""
        from evaluation.intervals import Bootstrap
        from evaluation.suites.lm_eval.results import summarise_task

        config = run.config
        bootstrap = Bootstrap(config.evaluation.bootstrap_resamples, config.decision.confidence, config.seed)
        tasks: dict[str, Any] = {}
        for task in config.evaluation.lm_eval_tasks:
            suite = _name(task)
            if answers.shards[suite]:
                mine, other = answers.lines[suite], base.lines[suite]
                tasks[task.name] = summarise_task(task, mine, other, answers.shards[suite], bootstrap)
        return {"lm_eval_tasks": tasks}

    def list_items(self, questions: None, answers: ModelAnswers) -> list[dict[str, Any]]:
        """Return every question with its figures, in the order of ids, in which all models are paired."""
        from evaluation.suites.lm_eval.results import list_item_metrics

        return [
            {
                "suite": suite,
                "custom_id": line["custom_id"],
                "prompt_hash": line["prompt_hash"],
                "metrics": list_item_metrics(line),
            }
            for suite, lines in answers.lines.items()
            if suite.startswith(PREFIX)
            for line in sorted(lines, key=lambda line: str(line["custom_id"]))
        ]

    def read_value(self, suite: str, metric: str, results: Mapping[str, Any]) -> Value:
        """Return one figure of a task, of all of its parts together."""
        figures = results["lm_eval_tasks"][suite.removeprefix(PREFIX)]["figures"]
        figure = figures.get("all", next(iter(figures.values())))[metric]
        return Value(figure["value"], figure["n"])


def _name(task: LmEvalTaskConfig) -> str:
    return f"{PREFIX}{task.name}"


SUITE = LmEvalSuite()
