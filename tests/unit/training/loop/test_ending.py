"""When a training ends, and that it ends well: a model, its reason, and the same after a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.unit.training.validated import make_validated, read_training
from training.engine.process_group import Ranks, join_ranks
from training.job import TrainingJob, is_trained, open_job
from training.loop.ending import Ending, is_forgetting
from training.loop.train import train
from voc.config.training import TrainingConfig
from voc.errors import TrainingError
from voc.store.manifest import read_manifest

MakeJob = Callable[..., TrainingJob]
EXPLODING = {"name": "adamw", "learning_rate": 0.5, "warmup_steps": 0}


def make_training(**settings: Any) -> TrainingConfig:
    optimizer = {"learning_rate": 1e-3}
    return TrainingConfig(max_steps=10, global_batch_size=2, max_seq_len=64, optimizer=optimizer, **settings)


def test_the_last_patience_losses_must_all_have_risen() -> None:
    rule = {"patience": 2, "max_rise_ratio": 0.5}
    assert is_forgetting([1.0, 1.6, 1.7], **rule)
    assert not is_forgetting([1.0, 1.6], **rule)
    assert not is_forgetting([1.0, 1.6, 1.4], **rule)
    assert not is_forgetting([1.0, 1.6, 1.4, 1.6], **rule)
    assert is_forgetting([1.0, 1.4, 1.6, 1.6], **rule)
    assert not is_forgetting([1.0, 1.5, 1.5], **rule)


def test_without_patience_nothing_ends_a_training() -> None:
    assert not is_forgetting([1.0, 9.0, 9.0], patience=0, max_rise_ratio=0.1)


def test_the_time_of_the_steps_before_a_resume_counts() -> None:
    training = make_training(max_wall_s=10)
    with join_ranks(use_gpu=False) as ranks:
        fresh = Ending(training, ranks, [])
        resumed = Ending(training, ranks, [{"step": 0, "validation_s": 99.0}, {"step": 1, "wall_s": 9.5}])
        assert fresh.check_limits({"step": 2, "wall_s": 0.6}) is None
        assert resumed.check_limits({"step": 2, "wall_s": 0.4}) is None
        assert resumed.check_limits({"step": 3, "wall_s": 0.2}) == "time_budget"


def test_the_last_step_is_the_last_even_if_the_time_is_up_as_well() -> None:
    with join_ranks(use_gpu=False) as ranks:
        ending = Ending(make_training(max_wall_s=1), ranks, [])
        assert ending.check_limits({"step": 10, "wall_s": 5.0}) == "max_steps"


def check_on_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    ending = Ending(make_training(max_wall_s=10), Ranks(rank, 2, rank, torch.device("cpu")), [])
    seen = [ending.check_limits({"step": step, "wall_s": wall_s}) for step, wall_s in ((1, 9 + 8 * rank), (2, 2))]
    Path(folder, f"rank-{rank}").write_text(str(seen))
    dist.destroy_process_group()


def test_the_first_ranks_clock_decides(tmp_path: Path) -> None:
    mp.spawn(check_on_rank, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        assert (tmp_path / f"rank-{rank}").read_text() == "[None, 'time_budget']"


def test_a_training_out_of_time_exports_what_it_has(make_job: MakeJob) -> None:
    job = make_job(training={"max_steps": 900, "max_wall_s": 1, "checkpoint": {"every_steps": 1000}})
    train(job)
    steps = read_training(job)
    assert len(steps) < 900
    assert sum(line["wall_s"] for line in steps[:-1]) < 1.01
    assert sum(line["wall_s"] for line in steps) > 0.99
    assert is_trained(job)
    facts = read_manifest(job.run.store, job.run.layout.export("mixed")).facts
    assert (facts["stopped_by"], facts["steps"]) == ("time_budget", len(steps))


def test_a_model_that_forgets_is_trained_no_further(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early_stop = {"patience": 2, "max_general_rise_ratio": 0.1}
    job = make_validated(
        make_job, tmp_path, arm="customer", max_steps=12, optimizer=EXPLODING, validation={"early_stop": early_stop}
    )
    with monkeypatch.context() as patch:
        patch.setattr("training.export.export.verify_model", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(job)
    monkeypatch.setattr("training.loop.train.run_step", lambda *_, **__: pytest.fail("it went on after its end"))
    train(open_job(job.run, job.arm))
    figures = read_training(job)
    before, *after = [line["validation"]["general_loss"] for line in figures if "validation" in line]
    assert len(after) == 2
    assert min(after) > 1.1 * before
    facts = read_manifest(job.run.store, job.run.layout.training("customer")).facts
    assert (facts["stopped_by"], facts["steps"]) == ("early_stop", 4)


def test_early_stop_without_general_rows_is_an_error_before_the_first_step(make_job: MakeJob) -> None:
    early_stop = {"every_steps": 2, "early_stop": {"patience": 1}}
    with pytest.raises(TrainingError, match="early_stop watches the loss of general rows, and none are held out"):
        make_job(training={"validation": early_stop})  # six general rows of each category are too few
