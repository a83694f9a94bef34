"""The evaluation of one model: serve (setup) > wait > shards of VOC, MMLU and further tasks > stop (teardown).

The group is mapped over models; the tasks inside are fixed by the configuration. `stop` runs whatever happened. What comes
after the group depends on the shards (Airflow leaves teardowns out of a group's leaves), so a failed shard fails the run.

Models that others serve have a group of their own, which reserves nothing: connect > shards. It is there if the deployment's
configuration has such models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.sdk import task_group

from evaluation.suites.protocol import PlannedSuite
from evaluation.suites.registry import plan_suites
from rayjob_provider.operators.ray_job import RayJobOperator
from rayjob_provider.operators.ray_job_stop import RayJobStopOperator
from voc.config.night import NightforgeConfig
from voc_dags.stages import LABEL_OF_TASK, RAY_CONNECTION, ray_stage, submission_id

SERVE_SUBMISSION_ID = submission_id("serve", "{{ ti.map_index }}")
SERVE_RESULT = "{{ ti.xcom_pull(task_ids='evaluate.serve', map_indexes=ti.map_index)['submission_id'] }}"
SERVED = "vllm"  # the kind of a model that this run serves itself


def make_evaluation_group(config: NightforgeConfig) -> Any:
    """Return the task group of this deployment, to be expanded over model names."""
    serving = config.serving

    @task_group(group_id="evaluate")
    def evaluate(model: str) -> None:
        serve = _stage(
            "serve",
            model,
            "serve",
            num_cpus=serving.num_cpus,
            num_gpus=serving.job_gpus,
            wait_for="submission",
            rerun_succeeded=True,  # a server that ended is not a result
            submission_id=SERVE_SUBMISSION_ID,
        )
        stop = RayJobStopOperator(
            task_id="stop", submission_id=SERVE_SUBMISSION_ID, ray_conn_id=RAY_CONNECTION, retries=3
        )
        # A second wait must look at the server of its own try: a job that succeeded is never run again.
        wait = _stage(
            "wait",
            model,
            "wait",
            "--serve-submission-id",
            SERVE_RESULT,
            submission_id=submission_id("wait", "{{ ti.map_index }}", "{{ ti.try_number }}"),
        )
        shards = _list_shards(model, [suite for suite in plan_suites(config) if SERVED in suite.kinds])
        serve >> wait >> shards >> stop.as_teardown(setups=serve)

    return evaluate


def make_external_group(config: NightforgeConfig) -> Any | None:
    """Return the task group of models that others serve, to be expanded over their names; None if there are none."""
    if not config.external_models.rows:
        return None

    @task_group(group_id="evaluate_external")
    def evaluate_external(model: str) -> None:
        connect = _stage("connect", model, "connect")
        connect >> _list_shards(model, [suite for suite in plan_suites(config) if suite.kinds - {SERVED}])

    return evaluate_external


def _list_shards(model: str, suites: Iterable[PlannedSuite]) -> list[RayJobOperator]:
    """Return one task per shard of every suite."""
    return [
        _stage(
            f"{suite.name}_{number}",
            model,
            suite.command,
            *suite.options,
            "--shard",
            str(number),
            "--num-shards",
            str(suite.num_shards),
        )
        for suite in suites
        for number in range(suite.num_shards)
    ]


def _stage(task_id: str, model: str, command: str, *options: str, **settings: Any) -> RayJobOperator:
    """Return the task that runs one command for one model, whose name labels it."""
    arguments = [command, "--model", model, *options]
    return ray_stage(task_id, "evaluation", arguments, map_label=model, map_index_template=LABEL_OF_TASK, **settings)
