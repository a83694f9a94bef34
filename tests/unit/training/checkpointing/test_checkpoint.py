from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from training.checkpointing.checkpoint import Checkpoints
from training.checkpointing.folders import check_start
from training.engine.model import load_model
from training.engine.optim import build_optimizers
from training.engine.process_group import Ranks, join_ranks
from training.job import TrainingJob
from voc.errors import CheckpointError, StoreError
from voc.store.base import Store
from voc.store.manifest import is_finished

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    with join_ranks(use_gpu=False) as joined:
        yield joined


def save_steps(
    job: TrainingJob,
    ranks: Ranks,
    steps: list[int],
    *,
    scores: dict[int, float] | None = None,
    resume_from: str | None = None,
) -> None:
    """Save checkpoints whose every parameter is the step's number."""
    model = load_model(job.base.folder, job.training, ranks)
    optimizers = build_optimizers(model, job.training.optimizer)
    with Checkpoints(job, ranks, resume_from) as checkpoints:
        if resume_from is not None:
            checkpoints.load_newest(model, optimizers)
        for step in steps:
            fill(model, step)
            checkpoints.save(step, model, optimizers, [{"step": step}], (scores or {}).get(step))


def fill(model: torch.nn.Module, number: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(number)


def load(job: TrainingJob, ranks: Ranks, resume_from: str | None = None) -> tuple[int, list, float]:
    model = load_model(job.base.folder, job.training, ranks)
    optimizers = build_optimizers(model, job.training.optimizer)
    step, metrics = Checkpoints(job, ranks, resume_from).load_newest(model, optimizers)
    return step, metrics, next(model.parameters()).detach().flatten()[0].item()


def list_kept(job: TrainingJob) -> set[int]:
    keys = job.run.store.list_keys(job.run.layout.checkpoints("mixed"))
    return {int(key.split("/")[-2].removeprefix("step-")) for key in keys}


def damage(job: TrainingJob, step: int, name: str = "__0_0.distcp") -> None:
    path = job.run.store.local_path(f"{job.run.layout.checkpoint('mixed', step)}/{name}")
    path.write_bytes(path.read_bytes()[:-5])


def test_without_checkpoints_training_starts_at_the_base(make_job: MakeJob, ranks: Ranks) -> None:
    assert load(make_job(), ranks)[:2] == (0, [])


@pytest.mark.parametrize("asynchronous", [True, False])
def test_the_newest_checkpoint_is_loaded_with_its_metrics(make_job: MakeJob, ranks: Ranks, asynchronous: bool) -> None:
    job = make_job(training={"checkpoint": {"asynchronous": asynchronous}})
    save_steps(job, ranks, [3, 7])
    assert load(job, ranks) == (7, [{"step": 7}], 7.0)


def test_only_the_newest_ones_are_kept(make_job: MakeJob, ranks: Ranks) -> None:
    job = make_job(training={"checkpoint": {"every_steps": 2, "keep": 2}})
    save_steps(job, ranks, [1, 2, 3, 10])
    assert list_kept(job) == {3, 10}


@pytest.mark.parametrize(("keep_best", "kept"), [(True, {2, 5}), (False, {5})])
def test_the_one_with_the_least_held_out_loss_is_kept_too(
    make_job: MakeJob, ranks: Ranks, keep_best: bool, kept: set[int]
) -> None:
    job = make_job(training={"checkpoint": {"keep": 1, "keep_best": keep_best}})
    save_steps(job, ranks, [1, 2, 3, 4, 5], scores={1: 2.0, 2: 1.0, 3: 1.5, 4: math.nan})
    assert list_kept(job) == kept


def test_training_goes_on_while_a_checkpoint_is_written_and_the_next_one_waits(
    make_job: MakeJob, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    model = load_model(job.base.folder, job.training, ranks)
    optimizers = build_optimizers(model, job.training.optimizer)
    may_write, events = threading.Event(), []
    store = type(job.run.store)
    upload = store.upload_file

    def upload_late(self: Store, path: Path, key: str) -> None:
        assert may_write.wait(60)
        events.append(key.split("/")[-2])
        upload(self, path, key)

    monkeypatch.setattr(store, "upload_file", upload_late)
    with Checkpoints(job, ranks) as checkpoints:
        fill(model, 3)
        checkpoints.save(3, model, optimizers, [])
        fill(model, 4)  # the training goes on, and what it changes is not in the checkpoint
        assert events == []
        threading.Timer(0.5, may_write.set).start()
        blocked_s = checkpoints.save(4, model, optimizers, [])
        assert blocked_s > 0.2
        assert set(events) >= {"step-00000003"}
        assert is_finished(job.run.store, job.run.layout.checkpoint("mixed", 3), job.inputs)
    damage(job, 4)
    assert load(job, ranks)[::2] == (3, 3.0)


@pytest.mark.parametrize("failing", ["upload_file", "write_bytes"])
def test_a_checkpoint_that_cannot_be_written_fails_the_run_by_name(
    make_job: MakeJob, ranks: Ranks, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    job = make_job()
    save_steps(job, ranks, [3])

    def fail(*_: object) -> None:
        raise StoreError("the bucket is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(job.run.store), failing, fail)
        with pytest.raises(
            CheckpointError, match="checkpoint of step 7 could not be written: rank 0: the bucket is full"
        ):
            save_steps(job, ranks, [7])
    assert load(job, ranks)[0] == 3


def test_an_error_of_the_code_that_writes_is_not_lost(
    make_job: MakeJob, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.checkpointing.checkpoint.describe_folder", lambda _: 1 / 0)
    with pytest.raises(CheckpointError, match="step 7 could not be written: ZeroDivisionError"):
        save_steps(make_job(), ranks, [7])


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "manifest.json"])
@pytest.mark.parametrize("harm", ["deleted", "cut"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    make_job: MakeJob, ranks: Ranks, capsys: pytest.CaptureFixture[str], name: str, harm: str
) -> None:
    job = make_job()
    save_steps(job, ranks, [3, 7])
    if harm == "deleted":
        job.run.store.delete_key(f"{job.run.layout.checkpoint('mixed', 7)}/{name}")
    else:
        damage(job, 7, name)
    assert load(job, ranks) == (3, [{"step": 3}], 3.0)
    assert "mixed: the checkpoint of step 7 is skipped" in capsys.readouterr().out


def test_training_does_not_start_over_when_no_checkpoint_can_be_used(make_job: MakeJob, ranks: Ranks) -> None:
    job = make_job()
    save_steps(job, ranks, [3, 7])
    damage(job, 3)
    damage(job, 7, "manifest.json")
    with pytest.raises(
        CheckpointError, match=r"none can be used: .*step 7 is skipped.*step 3 is skipped.*delete file:"
    ):
        load(job, ranks)


def test_a_checkpoint_of_other_data_is_named_and_never_started_over(
    make_job: MakeJob, ranks: Ranks, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    save_steps(job, ranks, [3])
    data, job.inputs["data"] = job.inputs["data"], "other"
    with pytest.raises(CheckpointError, match=r"step 3 is skipped: it was made from other inputs \(data\)"):
        load(job, ranks)
    with pytest.raises(CheckpointError, match="none can be used"):
        check_start(job, None)
    save_steps(job, ranks, [4])
    job.inputs["data"] = data
    assert load(job, ranks)[0] == 3
    assert "step 4 is skipped: it was made from other inputs (data)" in capsys.readouterr().out


def test_unfinished_checkpoints_alone_are_no_reason_not_to_start(
    make_job: MakeJob, ranks: Ranks, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    save_steps(job, ranks, [3])
    job.run.store.delete_key(f"{job.run.layout.checkpoint('mixed', 3)}/manifest.json")
    check_start(job, None)
    assert load(job, ranks)[:2] == (0, [])
    assert "step 3 is skipped: it is unfinished" in capsys.readouterr().out


def test_remains_of_an_unfinished_checkpoint_do_not_get_into_a_new_one(make_job: MakeJob, ranks: Ranks) -> None:
    job = make_job()
    key = f"{job.run.layout.checkpoint('mixed', 3)}/__9_0.distcp"
    job.run.store.write_bytes(key, b"rest")
    save_steps(job, ranks, [3])
    assert not job.run.store.exists(key)
    assert load(job, ranks)[0] == 3


def test_an_explicit_checkpoint_of_another_run_is_the_beginning_and_its_successors_go_on_from_there(
    make_job: MakeJob, ranks: Ranks
) -> None:
    first, second = make_job("first"), make_job("second")
    save_steps(first, ranks, [3, 7])
    uri = f"{first.run.store.uri}/{first.run.layout.checkpoint('mixed', 3)}"
    check_start(second, uri)
    assert load(second, ranks, uri) == (3, [{"step": 3}], 3.0)
    save_steps(second, ranks, [5], resume_from=uri)
    assert load(second, ranks, uri)[::2] == (5, 5.0)
    damage(second, 5)
    assert load(second, ranks, uri)[::2] == (3, 3.0)


def test_an_explicit_checkpoint_of_the_arm_itself_may_be_a_key_and_stays_as_long_as_it_is_named(
    make_job: MakeJob, ranks: Ranks
) -> None:
    job = make_job(training={"checkpoint": {"keep": 2}})
    save_steps(job, ranks, [3, 7])
    key = job.run.layout.checkpoint("mixed", 3)
    with pytest.raises(CheckpointError, match=r"newer checkpoints that did not come from it: step 7"):
        check_start(job, key)
    job.run.store.delete_prefix(job.run.layout.checkpoint("mixed", 7))
    save_steps(job, ranks, [5, 6, 7], resume_from=key)
    assert list_kept(job) == {3, 6, 7}
    assert load(job, ranks, f"{job.run.store.uri}/{key}")[0] == 7


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("missing", "does not exist or is unfinished"),
        ("cut", "is damaged: __0_0.distcp"),
        ("other", "does not fit arm 'mixed': data differ"),
        ("no checkpoint", "is no checkpoint"),
    ],
)
def test_an_explicit_checkpoint_that_cannot_be_used_is_refused_before_workers_start(
    make_job: MakeJob, ranks: Ranks, harm: str, message: str
) -> None:
    job = make_job()
    save_steps(job, ranks, [3])
    address = job.run.layout.checkpoint("mixed", 4 if harm == "missing" else 3)
    if harm == "cut":
        damage(job, 3)
    if harm == "other":
        job.inputs["data"] = "other"
    if harm == "no checkpoint":
        address = job.run.layout.data
    with pytest.raises(CheckpointError, match=message):
        check_start(job, address)


def test_a_checkpoint_in_a_bucket_is_fetched_verified_and_its_copy_deleted(
    make_job: MakeJob, ranks: Ranks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = make_job()
    save_steps(job, ranks, [3, 7])
    damage(job, 7)
    monkeypatch.setenv("NIGHTFORGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(type(job.run.store), "local_path", lambda *_: None)
    assert load(job, ranks) == (3, [{"step": 3}], 3.0)
    assert not list((tmp_path / "cache" / "checkpoints").glob("*/*.distcp"))
