"""A training that was interrupted goes on as if nothing had happened: in the middle of the data, packed rows, mixed sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.training.two_ranks import run_on_two_ranks
from training.job import TrainingJob, open_job
from training.loop.train import train
from training.metrics import StepFigures, read_metrics
from voc.run import open_run
from voc.store.layout import RunLayout

MakeJob = Callable[..., TrainingJob]

STOP_AT = 2
pytestmark = pytest.mark.timeout(900)  # a crowded machine needs minutes to start two ranks

OPTIMIZERS = ["adamw", "muon", "adamw_8bit"]


class InterruptedTrainingError(Exception):
    """Raised in place of a crash."""


def make_settings(optimizer: str) -> dict[str, Any]:
    rates = {"learning_rate": 1e-2, "muon_learning_rate": 0.02, "warmup_steps": 1, "weight_decay": 0.1}
    return {
        "max_steps": 5,
        "batch_unit": "rows",
        "global_batch_size": 2,
        "checkpoint": {"every_steps": STOP_AT},
        "optimizer": {"name": optimizer, **rates},
    }


def stop(figures: StepFigures) -> None:
    if figures["step"] == STOP_AT:
        raise InterruptedTrainingError


def train_until_stopped(store_uri: str, *, stops: bool) -> None:
    job = open_job(open_run(store_uri, "tiny"), "mixed")
    try:
        train(job, stop if stops else None)
    except InterruptedTrainingError:
        return


def train_on_two_ranks(store_uri: str, stops: bool) -> None:
    train_until_stopped(store_uri, stops=stops)


def read_losses(job: TrainingJob) -> list[float]:
    path = job.run.store.local_path(f"{RunLayout('tiny').training('mixed')}/metrics.jsonl")
    return [line["loss"] for line in read_metrics(path)]


def read_weights(job: TrainingJob) -> bytes:
    return job.run.store.read_bytes(f"{job.run.layout.export('mixed')}/model.safetensors")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_loss_after_a_resume_is_that_of_the_uninterrupted_run_bit_for_bit(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str], optimizer: str
) -> None:
    whole, broken = (make_job(name, training=make_settings(optimizer)) for name in ("whole", "broken"))
    train(whole)
    train_until_stopped(broken.run.store.uri, stops=True)
    train_until_stopped(broken.run.store.uri, stops=False)
    assert f"continues from the checkpoint of step {STOP_AT}" in capsys.readouterr().out
    assert read_losses(broken) == read_losses(whole)
    assert read_weights(broken) == read_weights(whole)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("first_workers", [1, 2])
def test_another_number_of_workers_goes_on_with_the_same_losses(
    make_job: MakeJob, capfd: pytest.CaptureFixture[str], optimizer: str, first_workers: int
) -> None:
    """The order of additions differs, hence a tolerance; at first it is that of float32."""
    whole, broken = (make_job(name, training=make_settings(optimizer)) for name in ("whole", "broken"))
    train(whole)
    for workers, stops in ((first_workers, True), (3 - first_workers, False)):
        if workers == 1:
            train_until_stopped(broken.run.store.uri, stops=stops)
        else:
            run_on_two_ranks(train_on_two_ranks, broken.run.store.uri, stops)
    assert f"continues from the checkpoint of step {STOP_AT}" in capfd.readouterr().out
    losses, expected = read_losses(broken), read_losses(whole)
    assert losses[STOP_AT] == pytest.approx(expected[STOP_AT], rel=1e-4)
    assert losses == pytest.approx(expected, rel=1e-3)
