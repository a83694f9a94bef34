"""The evaluation of one model: serve (setup) > wait > VOC and MMLU shards > stop (teardown).

The group is mapped over models; the tasks inside are fixed by the configuration. `stop` runs whatever happened. What comes
after the group depends on the shards (Airflow leaves teardowns out of a group's leaves), so a failed shard fails the run.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task_group
from rayjob_provider.operators.ray_job import RayJobStopOperator

from voc.config import NightforgeConfig
from voc_dags.stages import RAY_CONNECTION, ray_stage, submission_id

MMLU_PROTOCOLS = ("log_likelihood", "generative")
SERVE_SUBMISSION_ID = submission_id("serve", "ti.map_index")


def make_evaluation_group(config: NightforgeConfig) -> Any:
    """Return the task group of this deployment, to be expanded over model names."""
    serving, voc, mmlu = config.serving, config.evaluation.voc, config.evaluation.mmlu

    @task_group(group_id="evaluate")
    def evaluate(model: str) -> None:
        serve = ray_stage(
            "serve",
            "evaluation",
            ["serve", "--model", model],
            num_cpus=serving.num_cpus,
            num_gpus=serving.num_gpus,
            wait_for="submission",
            submission_id=SERVE_SUBMISSION_ID,
        )
        stop = RayJobStopOperator(
            task_id="stop", submission_id=SERVE_SUBMISSION_ID, ray_conn_id=RAY_CONNECTION, retries=3
        )
        # A second wait must look at the server of its own try: a job that succeeded is never run again.
        wait = ray_stage(
            "wait",
            "evaluation",
            ["wait", "--model", model, "--serve-submission-id", SERVE_SUBMISSION_ID],
            submission_id=submission_id("wait", "ti.map_index", "ti.try_number"),
        )
        shards = [
            ray_stage(
                f"voc_{shard}",
                "evaluation",
                ["voc", "--model", model, "--shard", str(shard), "--num-shards", str(voc.shards)],
            )
            for shard in range(voc.shards)
        ]
        shards += [
            ray_stage(
                f"mmlu_{protocol}_{shard}",
                "evaluation",
                [
                    *["mmlu", "--model", model, "--protocol", protocol],
                    *["--shard", str(shard), "--num-shards", str(mmlu.shards)],
                ],
            )
            for protocol in MMLU_PROTOCOLS
            for shard in range(mmlu.shards)
        ]
        serve >> wait >> shards >> stop.as_teardown(setups=serve)

    return evaluate
