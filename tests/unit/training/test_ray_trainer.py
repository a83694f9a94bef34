import os

import pytest

from training.capacity import WorkerRequest
from training.ray_trainer import build_trainer, set_train_variables

# What Ray starts an actor for, and nothing here uses.
DATASETS, CLEANER = "DatasetsCallback", "PlacementGroupCleanerCallback"
FOR_ONE_TRAINING = (
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER",
    "RAY_enable_metrics_collection",
    "RAY_task_events_report_interval_ms",
)


@pytest.fixture
def environment(monkeypatch):
    """The variables without a cluster; what a test sets is taken back."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    return os.environ


def list_callbacks(tmp_path):
    trainer = build_trainer(
        print, {}, WorkerRequest(2, 1.0, 0.0), name="run-arm", storage=str(tmp_path), max_failures=3
    )
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
    assert not set(FOR_ONE_TRAINING) & set(environment)
    del environment["RAY_ADDRESS"]
    environment["RAY_enable_metrics_collection"] = "1"  # what a user has set stays
    set_train_variables(77)
    assert [environment[name] for name in FOR_ONE_TRAINING] == ["0", "1", "0"]
    assert environment["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] == "77"
