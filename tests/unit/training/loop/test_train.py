"""The whole of an arm's training in one process, with a model of 37 thousand parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from training.engine.model import read_model
from training.job import TrainingJob, is_trained, open_job
from training.loop.train import train
from training.metrics import read_metrics
from voc.errors import TrainingError
from voc.store.manifest import read_manifest, verify_directory

MakeJob = Callable[..., TrainingJob]


def read_card(job: TrainingJob, name: str) -> Path:
    return job.run.store.local_path(f"{job.run.layout.training(job.arm)}/{name}")


def read_losses(job: TrainingJob) -> list[float]:
    return [line["loss"] for line in read_metrics(read_card(job, "metrics.jsonl"))]


def read_weights(job: TrainingJob) -> bytes:
    return job.run.store.read_bytes(f"{job.run.layout.export(job.arm)}/model.safetensors")


def test_training_learns_and_leaves_a_verified_model(make_job: MakeJob, capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(training={"max_steps": 12, "checkpoint": {"every_steps": 100}, "log_every_steps": 6})
    reports: list[dict] = []
    train(job, reports.append)
    losses = read_losses(job)
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 1
    assert is_trained(job)
    verify_directory(job.run.store, job.run.layout.training(job.arm))
    manifest = verify_directory(job.run.store, job.run.layout.export(job.arm))
    card = yaml.safe_load(read_card(job, "verification.yaml").read_text())
    assert card["model_digest"] == manifest.digest
    assert manifest.facts["steps"] == 12
    assert [report["step"] for report in reports] == [12]
    printed = capsys.readouterr().out
    assert "mixed: step 6/12, loss" in printed
    assert "tokens/s, ETA" in printed
    assert "bytes per parameter: weights 4, gradients 4, optimizer " in printed


def test_the_loss_of_a_step_does_not_depend_on_how_samples_fall_into_rows(make_job: MakeJob) -> None:
    short, long = (make_job(str(length), training={"max_seq_len": length}) for length in (320, 512))
    train(short)
    train(long)
    assert read_losses(short) == pytest.approx(read_losses(long), rel=1e-3)
    assert read_losses(short)[0] == pytest.approx(read_losses(long)[0], rel=1e-6)


def test_the_same_seed_gives_the_same_model_and_another_does_not(make_job: MakeJob) -> None:
    jobs = [make_job("a"), make_job("b"), make_job("c", seed=2)]
    for job in jobs:
        train(job)
    assert read_weights(jobs[0]) == read_weights(jobs[1])
    assert read_weights(jobs[0]) != read_weights(jobs[2])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_that_was_interrupted_ends_with_the_very_same_weights(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str], optimizer: str
) -> None:
    training = {"optimizer": {"name": optimizer, "learning_rate": 1e-2, "warmup_steps": 1, "weight_decay": 0.1}}
    whole = make_job("whole", training=training)
    train(whole)
    broken = make_job("broken", training=training)

    def stop(figures: dict) -> None:
        if figures["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, stop)
    assert not is_trained(broken)
    train(open_job(broken.run, broken.arm))
    assert "continues from the checkpoint of step 2" in capsys.readouterr().out
    assert read_losses(broken) == read_losses(whole)
    assert read_weights(broken) == read_weights(whole)


def test_a_failed_export_is_repeated_without_training_again(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    with monkeypatch.context() as patch:
        patch.setattr("training.export.export.verify_model", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(job)
    assert read_manifest(job.run.store, job.run.layout.export(job.arm)) is None
    monkeypatch.setattr("training.loop.train.run_step", lambda *_, **__: pytest.fail("a step was repeated"))
    train(job)
    assert is_trained(job)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(make_job: MakeJob) -> None:
    job = make_job(training={"optimizer": {"name": "adamw", "learning_rate": 1e30, "warmup_steps": 0}})
    with pytest.raises(TrainingError, match=r"arm 'mixed': .* nan in step 2"):
        train(job)


def test_an_exported_model_can_be_the_next_base(make_job: MakeJob) -> None:
    first = make_job("first")
    train(first)
    folder = first.run.store.local_path(first.run.layout.export("mixed"))
    second = make_job("second", base=folder)
    train(second)
    assert second.inputs["base"] == read_manifest(first.run.store, first.run.layout.export("mixed")).digest
    read_model(second.run.store.local_path(second.run.layout.export("mixed")))


@pytest.mark.gpu
def test_a_cuda_device_trains_and_exports_in_bfloat16(make_job: MakeJob) -> None:
    job = make_job(training={"gpus_per_worker": 1, "param_dtype": "bfloat16", "max_steps": 12})
    train(job)
    losses = read_losses(job)
    assert losses[-1] < losses[0] - 1
    assert is_trained(job)
    verify_directory(job.run.store, job.run.layout.export(job.arm))
