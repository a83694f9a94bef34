import os

import pytest
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from training.start.capacity import WorkerRequest
from training.start.ray_trainer import _FOR_ONE_TRAINING, build_trainer, set_train_variables

# What Ray starts an actor for, and nothing here uses.
DATASETS, CLEANER = "DatasetsCallback", "PlacementGroupCleanerCallback"


@pytest.fixture
def environment(monkeypatch):
    """The variables without a cluster; what a test sets is taken back."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return os.environ


def make_trainer(tmp_path):
    return build_trainer(print, {}, WorkerRequest(2, 1.0, 0.0), name="run-arm", storage=str(tmp_path), max_failures=3)


def list_callbacks(tmp_path):
    trainer = make_trainer(tmp_path)
    return [type(callback).__name__ for callback in trainer._create_default_callbacks()]


def test_ray_started_for_one_training_has_no_actors_without_use(environment, tmp_path):
    names = list_callbacks(tmp_path)
    assert not {DATASETS, CLEANER} & set(names)
    assert {"BackendSetupCallback", "SigtermCallback"} <= set(names)


def test_on_a_cluster_places_are_freed_when_the_controller_was_killed(environment, tmp_path):
    environment["RAY_ADDRESS"] = "ray://elsewhere"
    names = list_callbacks(tmp_path)
    assert CLEANER in names
    assert DATASETS not in names


def test_only_ray_started_for_one_training_reports_nothing(environment):
    environment["RAY_ADDRESS"] = "ray://elsewhere"
    set_train_variables(77)
    assert not set(_FOR_ONE_TRAINING) & set(environment)
    del environment["RAY_ADDRESS"]
    environment["RAY_enable_metrics_collection"] = "1"  # what a user has set stays
    set_train_variables(77)
    assert {name: environment[name] for name in _FOR_ONE_TRAINING} == {
        **_FOR_ONE_TRAINING,
        "RAY_enable_metrics_collection": "1",
    }
    assert environment["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] == "77"


@pytest.mark.parametrize("cluster", [None, "ray://elsewhere"])
def test_only_a_cluster_is_asked_for_nodes(environment, tmp_path, monkeypatch, cluster):
    if cluster is not None:
        environment["RAY_ADDRESS"] = cluster
    started = {}
    monkeypatch.setattr(
        DataParallelTrainer, "_initialize_and_run_controller", lambda self, **given: started.update(given)
    )
    trainer = make_trainer(tmp_path)
    policy = FixedScalingPolicy(trainer.scaling_config)
    trainer._initialize_and_run_controller(scaling_policy=policy, failure_policy="kept")
    assert started["failure_policy"] == "kept"
    assert (started["scaling_policy"] is policy) == (cluster is not None)
    if cluster is None:
        started["scaling_policy"].after_controller_start(None)
        decision = started["scaling_policy"].make_decision_for_non_running_worker_group()
        assert (decision.num_workers, decision.resources_per_worker) == (2, {"CPU": 1.0})
