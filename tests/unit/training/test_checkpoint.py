from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from training.checkpoint import Checkpoints
from training.job import TrainingJob
from training.model import load_model
from training.optim import build_optimizers
from training.process_group import Ranks, join_ranks

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    with join_ranks(use_gpu=False) as joined:
        yield joined


def save_steps(job: TrainingJob, ranks: Ranks, steps: list[int]) -> None:
    model = load_model(job.base.folder, job.training, ranks)
    optimizers = build_optimizers(model, job.training.optimizer)
    for step in steps:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(step)
        Checkpoints(job, ranks).save(step, model, optimizers, [{"step": step}])


def load(job: TrainingJob, ranks: Ranks) -> tuple[int, list, float]:
    model = load_model(job.base.folder, job.training, ranks)
    step, metrics = Checkpoints(job, ranks).load_newest(model, build_optimizers(model, job.training.optimizer))
    return step, metrics, next(model.parameters()).detach().flatten()[0].item()


def test_without_checkpoints_training_starts_at_the_base(make_job: MakeJob, ranks: Ranks) -> None:
    assert load(make_job(), ranks)[:2] == (0, [])


def test_the_newest_checkpoint_is_loaded_with_its_metrics(make_job: MakeJob, ranks: Ranks) -> None:
    job = make_job()
    save_steps(job, ranks, [3, 7])
    assert load(job, ranks) == (7, [{"step": 7}], 7.0)


def test_only_the_newest_ones_are_kept(make_job: MakeJob, ranks: Ranks) -> None:
    job = make_job(training={"checkpoint": {"every_steps": 2, "keep": 2}})
    save_steps(job, ranks, [1, 2, 3, 10])
    kept = {key.split("/")[-2] for key in job.run.store.list_keys(job.run.layout.checkpoints("mixed"))}
    assert kept == {"step-00000003", "step-00000010"}


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "manifest.json"])
@pytest.mark.parametrize("damage", ["deleted", "cut"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    make_job: MakeJob, ranks: Ranks, capsys: pytest.CaptureFixture[str], name: str, damage: str
) -> None:
    job = make_job()
    save_steps(job, ranks, [3, 7])
    path = job.run.store.local_path(f"{job.run.layout.checkpoint('mixed', 7)}/{name}")
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    assert load(job, ranks) == (3, [{"step": 3}], 3.0)
    assert "mixed: the checkpoint of step 7 is skipped" in capsys.readouterr().out


def test_a_checkpoint_of_other_settings_is_not_continued(
    make_job: MakeJob, ranks: Ranks, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    save_steps(job, ranks, [3])
    job.inputs["seed"] = 99
    assert load(job, ranks)[0] == 0
    assert "made from other inputs" in capsys.readouterr().out


def test_remains_of_an_unfinished_checkpoint_do_not_get_into_a_new_one(make_job: MakeJob, ranks: Ranks) -> None:
    job = make_job()
    key = f"{job.run.layout.checkpoint('mixed', 3)}/__9_0.distcp"
    job.run.store.write_bytes(key, b"rest")
    save_steps(job, ranks, [3])
    assert not job.run.store.exists(key)
    assert load(job, ranks)[0] == 3
