"""The shards of further lm-eval tasks, read back from the store, checked and measured.

Reads: evaluation/<model>/lm_eval_<task>/ of every model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.suites.lm_eval.ask import FILE_NAME, suite_name
from evaluation.suites.lm_eval.results import list_task_problems, measure_task
from evaluation.suites.voc.resampling import Bootstrap
from voc.config.night import LmEvalTaskConfig
from voc.errors import IntegrityError
from voc.models.folder import digest_model
from voc.run import ModelEntry, Run
from voc.store.manifest import Manifest, read_manifest, verify_directory

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TaskAnswers:
    """All models' answers to one task.

    Attributes:
        config: The task.
        lines: Lines of all shards per model.
        shards: Manifests of all shards per model.
    """

    config: LmEvalTaskConfig
    lines: Mapping[str, Sequence[Line]]
    shards: Mapping[str, Sequence[Manifest]]

    @property
    def suite(self) -> str:
        """Name of the task's suite."""
        return suite_name(self.config.name)


def list_task_shards(run: Run, model: str, task: LmEvalTaskConfig) -> list[str]:
    """Return the prefixes of a task's shards."""
    return [run.layout.shard(model, suite_name(task.name), i, task.shards) for i in range(task.shards)]


def read_task_manifests(run: Run, model: str) -> tuple[dict[str, list[Manifest]], list[str]]:
    """Return the manifests of a model's shards per suite, and one sentence for every shard that is not finished."""
    manifests: dict[str, list[Manifest]] = {}
    problems = []
    for task in run.config.evaluation.lm_eval_tasks:
        suite = suite_name(task.name)
        manifests[suite] = []
        for number, prefix in enumerate(list_task_shards(run, model, task)):
            manifest = read_manifest(run.store, prefix)
            if manifest is None:
                problems.append(f"{model}, {suite}: shard {number} of {task.shards} is not finished")
            else:
                manifests[suite].append(manifest)
    return manifests, problems


def load_task_answers(run: Run, models: Sequence[ModelEntry], base: str) -> tuple[list[TaskAnswers], list[str]]:
    """Read and verify every shard of every task; all of them are finished.

    Returns:
        The answers per task (only of use without problems), and the problems of coverage.

    Raises:
        IntegrityError: If a shard's file does not match its manifest, or it measured another model than this run's.
    """
    found, problems = [], []
    for task in run.config.evaluation.lm_eval_tasks:
        lines: dict[str, list[Line]] = {}
        shards: dict[str, list[Manifest]] = {}
        for model in models:
            digest = model.digest or digest_model(model.uri)
            lines[model.name], shards[model.name] = [], []
            for prefix in list_task_shards(run, model.name, task):
                manifest = verify_directory(run.store, prefix)
                if manifest.inputs["model_digest"] != digest:
                    raise IntegrityError(
                        f"{run.store.uri}/{prefix} measured the model {manifest.inputs['model_digest']}",
                        expected=f"{digest}, the model of this run",
                        remedy="delete the shard and run the suite again",
                    )
                shards[model.name].append(manifest)
                data = run.store.read_bytes(f"{prefix}/{FILE_NAME}")
                lines[model.name] += map(json.loads, data.splitlines())
        problems += list_task_problems(suite_name(task.name), shards[base][0].facts["num_docs"], lines, base)
        found.append(TaskAnswers(task, lines, shards))
    return found, problems


def measure_tasks(answers: Sequence[TaskAnswers], model: str, base: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return what `results.json` holds on one model's further tasks: figures per task, what they were, coverage."""
    results = {}
    for task in answers:
        shards = task.shards[model]
        first = shards[0]
        results[task.config.name] = {
            "lm_eval_task": task.config.task_name,
            "lm_eval": first.inputs["lm_eval"],
            "tasks": first.inputs["tasks"],
            "items": len(task.lines[model]),
            "truncated_prompts": sum(int(shard.facts["truncated_prompts"]) for shard in shards),
            "figures": measure_task(
                task.lines[model],
                task.lines[base],
                first.facts["aggregation"],
                first.facts["figures"] if len(shards) == 1 else None,
                bootstrap,
            ),
        }
    return results
