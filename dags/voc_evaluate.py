"""Evaluate any model beside the base (and the champion): the nightly run's evaluation without the training.

preflight > prepare > evaluate (one group per model) > gather > decide > report; nothing is promoted.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Param, dag

from voc_dags.deployment import deployment_config
from voc_dags.evaluation_group import make_evaluation_group, make_external_group
from voc_dags.stages import list_external_models, list_models, preflight, ray_stage

CONFIG = deployment_config()


@dag(
    dag_id="voc_evaluate",
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightforge"],
    params={
        "model_uri": Param(
            CONFIG.model.base,
            type="string",
            minLength=1,
            title="Model",
            description="Path or URI of a folder in the Hugging Face layout",
        ),
        "model_name": Param(
            "model",
            type="string",
            pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$",
            title="Name",
            description="In tables and keys",
        ),
    },
)
def voc_evaluate() -> None:
    """Build the evaluation."""
    plan = preflight()
    prepare = ray_stage("prepare", "training", ["prepare"])
    models = list_models(plan)
    evaluate = make_evaluation_group(CONFIG).expand(model=models)
    external = make_external_group(CONFIG)
    gather = ray_stage("gather", "evaluation", ["gather"])
    decide = ray_stage("decide", "evaluation", ["decide"])
    report = ray_stage("report", "evaluation", ["report"])

    plan >> prepare >> models
    evaluate >> gather >> decide >> report
    if external is not None:
        others = list_external_models(plan)
        prepare >> others
        external.expand(model=others) >> gather


voc_evaluate()
