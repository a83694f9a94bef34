"""How a stage becomes a Ray job: fixed words as the entrypoint, everything else as data.

A submission id is derived from the DAG run, the stage and what it works on, so that a retry finds the job it started.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import task

from rayjob_provider.hooks.ray_job import RayJobHook
from rayjob_provider.operators.ray_job import RayJobOperator
from voc.arguments import ARGUMENTS_VARIABLE
from voc.config.file import load_config
from voc.preflight.preflight import run_preflight
from voc.run import open_run, read_models
from voc.store.layout import make_run_id
from voc_dags.deployment import config_path, deployment_config, form_overrides

RAY_CONNECTION = "ray_default"
LABEL_OF_TASK = "{{ task.map_label }}"  # what a mapped task works on, in the UI
RETRIES = 2
RETRY_DELAY = timedelta(seconds=20)
# What every stage is told; preflight returns both values.
RUN_ARGUMENTS = (
    "--store-uri",
    "{{ ti.xcom_pull(task_ids='preflight')['store_uri'] }}",
    "--run-id",
    "{{ ti.xcom_pull(task_ids='preflight')['run_id'] }}",
)


@task(task_id="preflight", retries=0)
def preflight(params: dict[str, Any] | None = None, run_id: str | None = None, dag: Any = None) -> dict[str, Any]:
    """Check all that can be checked before anything expensive starts, and create the run.

    Returns:
        The store's URI, the run id, the configuration's hash and the arms to train.
    """
    config = deployment_config()
    overrides = form_overrides(params or {}, config)
    RayJobHook(RAY_CONNECTION).check()
    result = run_preflight(load_config(config_path(), overrides=overrides), make_run_id(f"{dag.dag_id}-{run_id}"))
    return {
        "store_uri": result.store_uri,
        "run_id": result.run_id,
        "config_hash": result.config_hash,
        "arms": list(result.arms),
    }


@task(task_id="list_arms", retries=RETRIES)
def list_arms(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return label and arguments of each arm's training job (a mapped task cannot expand over one key of a result)."""
    shared = ["--store-uri", plan["store_uri"], "--run-id", plan["run_id"]]
    return [{"map_label": arm, "arguments": ["run", *shared, "--arm", arm]} for arm in plan["arms"]]


@task(task_id="list_models", retries=RETRIES)
def list_models(plan: dict[str, Any]) -> list[str]:
    """Return the names of the models that this run serves and evaluates, references first."""
    run = open_run(plan["store_uri"], plan["run_id"])
    return [model.name for model in read_models(run) if model.role != "external"]


@task(task_id="list_external_models", retries=RETRIES)
def list_external_models(plan: dict[str, Any]) -> list[str]:
    """Return the names of the models that others serve."""
    run = open_run(plan["store_uri"], plan["run_id"])
    return [model.name for model in read_models(run) if model.role == "external"]


def submission_id(stage: str, *parts: str) -> list[str]:
    """Return the parts of a stage's submission id; `parts` are templates that tell its instances apart."""
    return ["{{ dag.dag_id }}", "{{ run_id }}", stage, *parts]


def ray_stage(task_id: str, module: str, arguments: Sequence[Any], **settings: Any) -> RayJobOperator:
    """Return the task that runs one stage as a Ray job.

    Args:
        task_id: Name of the task.
        module: The stage's package: `python -m <module>`.
        arguments: The stage's arguments without those of `RUN_ARGUMENTS`; may hold templates and XCom values.
        settings: Further settings of the operator.
    """
    command, *rest = arguments
    return RayJobOperator(**stage_settings(task_id, module, **settings), arguments=[command, *RUN_ARGUMENTS, *rest])


def stage_settings(task_id: str, module: str, **settings: Any) -> dict[str, Any]:
    """Return the operator settings that all stages share."""
    return {
        "task_id": task_id,
        "entrypoint": ["python", "-m", module],
        "arguments_env_var": ARGUMENTS_VARIABLE,
        "submission_id": submission_id(task_id, "{{ ti.map_index }}"),
        "ray_conn_id": RAY_CONNECTION,
        "num_cpus": 0,
        "retries": RETRIES,
        "retry_delay": RETRY_DELAY,
        **settings,
    }
