"""The evaluation of one model: serve (setup) > wait > shards of VOC, MMLU and further tasks > stop (teardown).

The group is mapped over models; the tasks inside are fixed by the configuration. `stop` runs whatever happened. What comes
after the group depends on the shards (Airflow leaves teardowns out of a group's leaves), so a failed shard fails the run.

Models that others serve have a group of their own, which reserves nothing: connect > shards. It is there if the deployment's
configuration has such models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import task_group

from rayjob_provider.operators.ray_job import RayJobOperator, RayJobStopOperator
from voc.config.night import LmEvalTaskConfig, NightforgeConfig
from voc_dags.stages import RAY_CONNECTION, ray_stage, submission_id

MMLU_PROTOCOLS = ("log_likelihood", "generative", "letter")
SERVE_SUBMISSION_ID = submission_id("serve", "{{ ti.map_index }}")
SERVE_RESULT = "{{ ti.xcom_pull(task_ids='evaluate.serve', map_indexes=ti.map_index)['submission_id'] }}"
# What a closed model can be asked: it scores no given tokens and takes no list of allowed answers.
EXTERNAL_MMLU_PROTOCOLS = ("generative",)
MODEL_OF_TASK = "{{ task.arguments[6] }}"  # behind the command, the store and the run


def make_evaluation_group(config: NightforgeConfig) -> Any:
    """Return the task group of this deployment, to be expanded over model names."""
    serving = config.serving

    @task_group(group_id="evaluate")
    def evaluate(model: str) -> None:
        serve = _stage(
            "serve",
            ["serve", "--model", model],
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
            ["wait", "--model", model, "--serve-submission-id", SERVE_RESULT],
            submission_id=submission_id("wait", "{{ ti.map_index }}", "{{ ti.try_number }}"),
        )
        shards = _list_shards(config, model, MMLU_PROTOCOLS, config.evaluation.lm_eval_tasks)
        serve >> wait >> shards >> stop.as_teardown(setups=serve)

    return evaluate


def make_external_group(config: NightforgeConfig) -> Any | None:
    """Return the task group of models that others serve, to be expanded over their names; None if there are none."""
    if not config.external_models.rows:
        return None

    @task_group(group_id="evaluate_external")
    def evaluate_external(model: str) -> None:
        connect = _stage("connect", ["connect", "--model", model])
        connect >> _list_shards(config, model, EXTERNAL_MMLU_PROTOCOLS)

    return evaluate_external


def _list_shards(
    config: NightforgeConfig, model: str, protocols: Sequence[str], lm_eval_tasks: Sequence[LmEvalTaskConfig] = ()
) -> list[RayJobOperator]:
    """Return one task per shard of every suite."""
    voc, mmlu = config.evaluation.voc, config.evaluation.mmlu
    asked = [(f"voc_{n}", ["voc", "--model", model], n, voc.shards) for n in range(voc.shards)]
    asked += [
        (f"mmlu_{protocol}_{n}", ["mmlu", "--model", model, "--protocol", protocol], n, mmlu.shards)
        for protocol in protocols
        for n in range(mmlu.shards)
    ]
    asked += [
        (f"lm_eval_{task.name}_{n}", ["lm-eval", "--model", model, "--task", task.name], n, task.shards)
        for task in lm_eval_tasks
        for n in range(task.shards)
    ]
    return [
        _stage(task_id, [*arguments, "--shard", str(number), "--num-shards", str(count)])
        for task_id, arguments, number, count in asked
    ]


def _stage(task_id: str, arguments: list[Any], **settings: Any) -> RayJobOperator:
    return ray_stage(task_id, "evaluation", arguments, map_index_template=MODEL_OF_TASK, **settings)
