"""The DAG files load in Airflow and have the shape of the picture in docs/architecture.md."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytest.importorskip("airflow.sdk", reason="runs in the Airflow environment")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTFORGE_CONFIG", str(REPOSITORY / "configs" / "demo.yaml"))
    monkeypatch.setenv("NIGHTFORGE_STORE", "file:///nowhere")
    monkeypatch.setenv("NIGHTFORGE_WORLD", "/nowhere")


def load(name: str) -> ModuleType:
    return importlib.reload(importlib.import_module(name))


@pytest.fixture
def nightly(configured: None) -> Any:
    return load("voc_nightly").voc_nightly()


def test_the_night_goes_from_preflight_to_promotion(nightly: Any) -> None:
    order = ["preflight", "prepare", "train", "list_models", "evaluate.serve", "evaluate.wait", "evaluate.voc_0"]
    order += ["gather", "decide", "promote"]
    for before, after in itertools.pairwise(order):
        assert after in nightly.get_task(before).get_flat_relative_ids(upstream=False), (before, after)


def test_the_gathering_depends_on_every_suite_and_not_only_on_the_teardown(nightly: Any) -> None:
    upstream = nightly.get_task("gather").upstream_task_ids
    protocols = ("log_likelihood", "generative", "letter")
    assert upstream == {"evaluate.voc_0", *(f"evaluate.mmlu_{protocol}_0" for protocol in protocols)}


def test_further_tasks_are_shards_beside_the_others(
    configured: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (REPOSITORY / "configs" / "demo.yaml").read_text()
    tasks = "evaluation:\n  lm_eval_tasks: [{name: ifeval, shards: 2}]\n"
    (tmp_path / "config.yaml").write_text(text.replace("evaluation:\n", tasks, 1))
    monkeypatch.setenv("NIGHTFORGE_CONFIG", str(tmp_path / "config.yaml"))
    night = load("voc_nightly").voc_nightly()
    upstream = night.get_task("gather").upstream_task_ids
    assert {"evaluate.lm_eval_ifeval_0", "evaluate.lm_eval_ifeval_1"} <= upstream
    assert "evaluate.lm_eval_ifeval_1" in night.get_task("evaluate.wait").downstream_task_ids


def test_a_suite_of_the_registry_is_a_task_and_its_label_is_the_model(
    configured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = importlib.import_module("evaluation.suites.registry")
    planned = (*registry.plan_suites(load("voc_nightly").CONFIG), registry.PlannedSuite("toy", 2, "toy", ("--easy",)))
    monkeypatch.setattr(registry, "plan_suites", lambda config: planned)
    load("voc_dags.evaluation_group")
    night = load("voc_nightly").voc_nightly()
    load_again = importlib.import_module("voc_dags.evaluation_group")
    assert {"evaluate.toy_0", "evaluate.toy_1"} <= night.get_task("gather").upstream_task_ids
    task = night.get_task("evaluate.toy_1")
    assert task.arguments[-5:] == ["--easy", "--shard", "1", "--num-shards", "2"]
    assert task.map_index_template == "{{ task.map_label }}"
    assert task.map_label == task.arguments[6]  # the model of this instance of the group
    monkeypatch.undo()
    importlib.reload(load_again)


def test_the_server_is_a_setup_with_a_teardown(nightly: Any) -> None:
    assert nightly.get_task("evaluate.serve").is_setup
    assert nightly.get_task("evaluate.stop").is_teardown


@pytest.mark.parametrize("name", ["voc_nightly", "voc_evaluate"])
def test_models_that_others_serve_reserve_nothing_and_the_gathering_waits_for_them(
    configured: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    text = (REPOSITORY / "configs" / "demo.yaml").read_text()
    rows = "external_models: {bedrock: [{name: lite, title: Lite, model: m:0, region: us-east-1}]}"
    (tmp_path / "with_external.yaml").write_text(f"{text}\n{rows}\n")
    monkeypatch.setenv("NIGHTFORGE_CONFIG", str(tmp_path / "with_external.yaml"))
    dag = getattr(load(name), name)()
    external = {task.task_id for task in dag.tasks if task.task_id.startswith("evaluate_external.")}
    suites = {"evaluate_external.voc_0", "evaluate_external.mmlu_generative_0"}
    assert external == {"evaluate_external.connect", *suites}
    assert suites < dag.get_task("gather").upstream_task_ids
    assert "prepare" in dag.get_task("evaluate_external.connect").get_flat_relative_ids(upstream=True)
    assert {dag.get_task(task).num_gpus for task in external} == {0}


def test_one_night_at_a_time_and_no_catching_up(nightly: Any) -> None:
    assert nightly.max_active_runs == 1
    assert nightly.catchup is False


def test_the_form_has_a_schema(nightly: Any) -> None:
    schema = nightly.params.get_param("arms").schema
    assert schema["items"]["enum"] == ["customer_only", "mix_75_25"]
    assert nightly.params.get_param("max_steps").schema["minimum"] == 1


def test_entrypoints_are_fixed_words(nightly: Any) -> None:
    for task in nightly.tasks:
        entrypoint = getattr(task, "entrypoint", None) or getattr(task, "partial_kwargs", {}).get("entrypoint")
        if entrypoint:
            assert entrypoint[:2] == ["python", "-m"]
            assert entrypoint[2] in {"training", "evaluation"}
            assert len(entrypoint) == 3


def test_the_evaluation_of_any_model_promotes_nothing(configured: None) -> None:
    dag = load("voc_evaluate").voc_evaluate()
    assert "promote" not in dag.task_ids
    assert "train" not in dag.task_ids


def test_a_missing_configuration_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIGHTFORGE_CONFIG", raising=False)
    deployment = importlib.import_module("voc_dags.deployment")
    with pytest.raises(Exception, match="NIGHTFORGE_CONFIG is not set"):
        deployment.deployment_config()


def test_form_values_become_overrides_of_the_configuration(configured: None) -> None:
    deployment = importlib.import_module("voc_dags.deployment")
    config = deployment.deployment_config()
    overrides = deployment.form_overrides({"arms": ["mix_75_25"], "seed": 3, "max_steps": 7, "promote": False}, config)
    assert overrides["seed"] == 3
    assert overrides["training.max_steps"] == 7
    assert overrides["promotion.enabled"] is False
    assert [arm["name"] for arm in overrides["arms"]] == ["mix_75_25"]


def test_evaluating_a_model_trains_nothing(configured: None) -> None:
    deployment = importlib.import_module("voc_dags.deployment")
    config = deployment.deployment_config()
    overrides = deployment.form_overrides({"model_uri": "/m", "model_name": "mine"}, config)
    assert overrides["arms"] == []
    assert overrides["extra_models"] == [{"name": "mine", "title": "mine", "uri": "/m"}]
