"""The night: fine-tune every arm on fresh feedback, evaluate every model, decide, promote only what is better.

preflight > prepare > train (one per arm) > evaluate (one group per model) > gather > decide > report, promote
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import Param, dag

from rayjob_provider.operators.ray_job import RayJobOperator
from voc_dags.deployment import deployment_config, nightly_schedule
from voc_dags.evaluation_group import make_evaluation_group, make_external_group
from voc_dags.stages import (
    LABEL_OF_TASK,
    list_arms,
    list_external_models,
    list_models,
    preflight,
    ray_stage,
    stage_settings,
)

CONFIG = deployment_config()
ARMS = [arm.name for arm in CONFIG.arms]


@dag(
    dag_id="voc_nightly",
    schedule=nightly_schedule(),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightforge"],
    params={
        "arms": Param(
            ARMS,
            type="array",
            items={"type": "string", "enum": ARMS},
            minItems=1,
            uniqueItems=True,
            title="Arms",
            description="Which mixtures to train",
        ),
        "seed": Param(None, type=["null", "integer"], minimum=0, title="Seed", description=f"Empty: {CONFIG.seed}"),
        "max_steps": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Optimizer steps",
            description=f"Of every arm; empty: {CONFIG.training.max_steps}",
        ),
        "promote": Param(
            CONFIG.promotion.enabled, type="boolean", title="Promote", description="Write the champion log after a GO"
        ),
    },
)
def voc_nightly() -> None:
    """Build the night."""
    plan = preflight()
    prepare = ray_stage("prepare", "training", ["prepare"])
    train = RayJobOperator.partial(
        **stage_settings("train", "training", map_index_template=LABEL_OF_TASK)
    ).expand_kwargs(list_arms(plan))
    models = list_models(plan)
    evaluate = make_evaluation_group(CONFIG).expand(model=models)
    external = make_external_group(CONFIG)
    gather = ray_stage("gather", "evaluation", ["gather"])
    decide = ray_stage("decide", "evaluation", ["decide"])
    report = ray_stage("report", "evaluation", ["report"])
    promote = ray_stage("promote", "evaluation", ["promote"])

    plan >> prepare >> train >> models
    evaluate >> gather >> decide >> [promote, report]
    if external is not None:
        others = list_external_models(plan)
        prepare >> others
        external.expand(model=others) >> gather


voc_nightly()
