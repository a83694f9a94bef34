from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from training.job import TrainingJob, open_job
from training.loop.tracking import MLFLOW_RUN_NAME, flatten
from training.loop.train import train
from training.metrics import METRICS_NAME, read_metrics
from voc.errors import ConfigError

MakeJob = Callable[..., TrainingJob]


def find_folder(job: TrainingJob) -> Path:
    return Path(job.run.store.local_path(job.run.layout.tracking(job.arm)))


def read_scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def interrupt_at(step: int) -> Callable[[dict], None]:
    def stop(figures: dict) -> None:
        if figures["step"] == step:
            raise KeyboardInterrupt

    return stop


def test_every_step_is_in_the_metrics_file_and_in_tensorboard(make_job: MakeJob) -> None:
    job = make_job()
    train(job)
    figures = read_metrics(find_folder(job) / METRICS_NAME)
    assert figures == read_metrics(Path(job.run.store.local_path(job.run.layout.training("mixed"))) / METRICS_NAME)
    steps = [line for line in figures if "loss" in line]
    scalars = read_scalars(find_folder(job), "loss")
    assert [step for step, _ in scalars] == [line["step"] for line in steps] == [1, 2, 3, 4]
    assert [value for _, value in scalars] == pytest.approx([line["loss"] for line in steps])


def test_what_an_interrupted_training_wrote_after_its_checkpoint_is_taken_back(make_job: MakeJob) -> None:
    job = make_job(training={"checkpoint": {"every_steps": 2}})
    with pytest.raises(KeyboardInterrupt):
        train(job, interrupt_at(2))
    with (find_folder(job) / METRICS_NAME).open("a") as file:
        file.write(json.dumps({"step": 3, "loss": 99.0}) + "\n")
    train(open_job(job.run, job.arm))
    figures = read_metrics(find_folder(job) / METRICS_NAME)
    assert [line["step"] for line in figures if "loss" in line] == [1, 2, 3, 4]
    assert [step for step, _ in read_scalars(find_folder(job), "loss")] == [1, 2, 3, 4]


def test_mlflow_gets_every_step_and_a_resumed_training_goes_on_in_the_same_run(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    job = make_job(training={"tracking": {"backends": ["mlflow"], "mlflow_experiment": "nights"}})
    with pytest.raises(KeyboardInterrupt):
        train(job, interrupt_at(2))
    train(open_job(job.run, job.arm))
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("nights").experiment_id])
    assert [(run.info.run_name, run.info.status) for run in runs] == [("tiny/mixed", "FINISHED")]
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    assert sorted({metric.step for metric in history}) == [1, 2, 3, 4]
    assert json.loads((find_folder(job) / MLFLOW_RUN_NAME).read_text())["run_id"] == runs[0].info.run_id


def test_mlflow_without_an_address_is_an_error_before_the_first_step(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("training.loop.train.run_step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is not set"):
        train(make_job(training={"tracking": {"backends": ["mlflow"]}}))


def test_a_tracker_that_fails_is_counted_and_never_ends_a_training(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr("training.loop.tracking.TensorBoardTracker.add", fail)
    job = make_job()
    train(job)
    printed = capsys.readouterr().out
    assert printed.count("tensorboard failed at step") == 1
    assert "tensorboard did not take 4 of its calls" in printed
    assert len([line for line in read_metrics(find_folder(job) / METRICS_NAME) if "loss" in line]) == 4


def test_nested_figures_are_tracked_under_their_paths() -> None:
    figures = {"step": 3, "loss": 1, "skipped": True, "note": "x", "validation": {"strata": {"general/chat": 0.5}}}
    assert dict(flatten(figures)) == {"loss": 1.0, "validation/strata/general/chat": 0.5}
