"""The evaluation of one model: serve (setup) > wait > shards of VOC, MMLU and further tasks > stop (teardown).

The group is mapped over models; the tasks inside are fixed by the configuration. `stop` runs whatever happened. What comes
after the group depends on the shards (Airflow leaves teardowns out of a group's leaves), so a failed shard fails the run.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task_group

from rayjob_provider.operators.ray_job import RayJobOperator, RayJobStopOperator
from voc.config import NightforgeConfig
from voc_dags.stages import RAY_CONNECTION, ray_stage, submission_id

MMLU_PROTOCOLS = ("log_likelihood", "generative", "letter")
SERVE_SUBMISSION_ID = submission_id("serve", "{{ ti.map_index }}")
SERVE_RESULT = "{{ ti.xcom_pull(task_ids='evaluate.serve', map_indexes=ti.map_index)['submission_id'] }}"
MODEL_OF_TASK = "{{ task.arguments[6] }}"  # behind the command, the store and the run


def make_evaluation_group(config: NightforgeConfig) -> Any:
    """Return the task group of this deployment, to be expanded over model names."""
    serving, voc, mmlu = config.serving, config.evaluation.voc, config.evaluation.mmlu

    def stage(task_id: str, arguments: list[Any], **settings: Any) -> RayJobOperator:
        return ray_stage(task_id, "evaluation", arguments, map_index_template=MODEL_OF_TASK, **settings)

    @task_group(group_id="evaluate")
    def evaluate(model: str) -> None:
        serve = stage(
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
        wait = stage(
            "wait",
            ["wait", "--model", model, "--serve-submission-id", SERVE_RESULT],
            submission_id=submission_id("wait", "{{ ti.map_index }}", "{{ ti.try_number }}"),
        )
        shards = [
            stage(
                f"voc_{shard}",
                ["voc", "--model", model, "--shard", str(shard), "--num-shards", str(voc.shards)],
            )
            for shard in range(voc.shards)
        ]
        shards += [
            stage(
                f"mmlu_{protocol}_{shard}",
                [
                    *["mmlu", "--model", model, "--protocol", protocol],
                    *["--shard", str(shard), "--num-shards", str(mmlu.shards)],
                ],
            )
            for protocol in MMLU_PROTOCOLS
            for shard in range(mmlu.shards)
        ]
        shards += [
            stage(
                f"lm_eval_{task.name}_{shard}",
                [
                    *["lm-eval", "--model", model, "--task", task.name],
                    *["--shard", str(shard), "--num-shards", str(task.shards)],
                ],
            )
            for task in config.evaluation.lm_eval_tasks
            for shard in range(task.shards)
        ]
        serve >> wait >> shards >> stop.as_teardown(setups=serve)

    return evaluate
