"""Steps out of line: a spike is reported, skipped or ends the training; a resumed training judges as an uninterrupted one."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.validated import drop_times, read_training, spike_at
from training.engine.model import load_model
from training.engine.optim import build_optimizers
from training.engine.process_group import join_ranks
from training.job import TrainingJob, is_trained, open_job
from training.loop.guard import StepGuard, is_spike
from training.loop.train import run_step, train
from voc.errors import TrainingError
from voc.store.manifest import read_manifest

MakeJob = Callable[..., TrainingJob]


def make_guarded(make_job: MakeJob, on_spike: str, name: str = "run", **training: Any) -> TrainingJob:
    return make_job(name, training={"guard": {"spike_ratio": 5, "on_spike": on_spike, "window_steps": 3}, **training})


def read_bad_steps(job: TrainingJob) -> list[dict[str, Any]]:
    lines = job.run.store.read_bytes(job.run.layout.bad_steps(job.arm)).splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


def read_weights(job: TrainingJob) -> bytes:
    return job.run.store.read_bytes(f"{job.run.layout.export(job.arm)}/model.safetensors")


def test_a_spike_is_a_loss_above_a_multiple_of_the_median() -> None:
    assert is_spike(6.1, [3.0, 2.0, 90.0], 2)
    assert not is_spike(6.0, [3.0, 2.0, 90.0], 2)
    assert not is_spike(6.1, [], 2)
    assert not is_spike(6.1, [1.0], 0)


def test_a_reported_spike_changes_nothing_but_the_report(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = make_job("plain")
    train(plain)
    watched = make_guarded(make_job, "report", "watched")
    spike_at(monkeypatch, 3)
    train(watched)
    assert read_weights(watched) == read_weights(plain)
    assert [line.get("spike", 0) for line in read_training(watched)] == [0, 0, 1, 0]
    (bad,) = read_bad_steps(watched)
    assert (bad["step"], bad["fault"], bad["action"]) == (3, "spike", "report")
    assert len(bad["samples"]) == 8
    said = capsys.readouterr().out
    assert re.search(r"the loss .* of step 3 is \d\d\.\d x the median .*: reported; made from \w+ (c|row )\d", said)
    facts = read_manifest(watched.run.store, watched.run.layout.export("mixed")).facts
    assert (facts["spikes"], facts["skipped"]) == (1, 0)


def test_a_skipped_step_leaves_weights_and_optimizers_as_they_are(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_guarded(make_job, "skip")
    spike_at(monkeypatch, 2)
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(job.base.folder, job.training, ranks)
        optimizers = build_optimizers(model, job.training.optimizer)
        guard = StepGuard(job, ranks, [])

        def look() -> Any:
            return copy.deepcopy([model.state_dict(), *(optimizer.state_dict() for optimizer in optimizers)])

        run_step(job, ranks, model, optimizers, guard=guard, step=0)
        before = look()
        figures = run_step(job, ranks, model, optimizers, guard=guard, step=1)
        assert (figures["spike"], figures["skipped"]) == (1, 1)
        torch.testing.assert_close(look(), before, rtol=0, atol=0)
        assert all(parameter.grad is None for parameter in model.parameters())
        assert "skipped" not in run_step(job, ranks, model, optimizers, guard=guard, step=2)
        assert not torch.equal(look()[0]["model.norm.weight"], before[0]["model.norm.weight"])


def test_a_resumed_run_skips_what_an_uninterrupted_one_skips(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (make_guarded(make_job, "skip", name, max_steps=6) for name in ("whole", "broken"))
    spike_at(monkeypatch, 3, 5)
    train(whole)
    assert [line["step"] for line in read_training(whole) if "skipped" in line] == [3, 5]

    def stop(figures: dict) -> None:
        if figures["step"] == 4:
            raise KeyboardInterrupt

    spike_at(monkeypatch, 3, 5)
    with pytest.raises(KeyboardInterrupt):
        train(broken, stop)
    spike_at(monkeypatch, 3, 5, done=4)
    train(open_job(broken.run, broken.arm))
    assert list(map(drop_times, read_training(broken))) == list(map(drop_times, read_training(whole)))
    assert read_weights(broken) == read_weights(whole)
    assert read_bad_steps(broken) == read_bad_steps(whole)


def test_a_spike_may_end_the_training(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_guarded(make_job, "stop")
    spike_at(monkeypatch, 2)
    with pytest.raises(
        TrainingError, match=r"of step 2 is .* x the median .*made from (customer c|general row )\d.*bad_steps\.jsonl"
    ):
        train(job)
    assert not is_trained(job)


def test_a_guard_that_would_skip_everything_ends_the_training(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_guarded(make_job, "skip", max_steps=6)
    spike_at(monkeypatch, 2, 3, 4, 5, 6)
    with pytest.raises(TrainingError, match=r"of step 4 .*and the 2 steps before it were skipped for the same"):
        train(job)


def test_the_window_of_a_resumed_guard_holds_the_last_accepted_losses(make_job: MakeJob) -> None:
    job = make_guarded(make_job, "report")
    losses = [(1, 1.0, {}), (2, 2.0, {}), (3, 99.0, {"spike": 1, "skipped": 1}), (4, 12.0, {"spike": 1}), (5, 3.0, {})]
    metrics = [{"step": 0, "validation": {}}, *({"step": s, "loss": loss, **marks} for s, loss, marks in losses)]
    with join_ranks(use_gpu=False) as ranks:
        samples = job.samples.read_step(0)
        assert StepGuard(job, ranks, metrics).check(5, samples, 15.0, 1.0) == {}, "5 x the median of 2, 12 and 3"
        assert StepGuard(job, ranks, metrics).check(5, samples, 15.1, 1.0) == {"spike": 1}


@pytest.mark.parametrize(("loss", "grad_norm"), [(float("nan"), 1.0), (1.0, float("inf"))])
def test_what_is_no_number_ends_the_training_and_names_the_rows(
    make_job: MakeJob, loss: float, grad_norm: float
) -> None:
    job = make_job()
    with join_ranks(use_gpu=False) as ranks, pytest.raises(TrainingError, match="in step 2, made from") as raised:
        StepGuard(job, ranks, []).check(1, job.samples.read_step(1), loss, grad_norm)
    shares, samples = job.plan.shares, job.samples.read_step(1)
    (bad,) = read_bad_steps(job)
    assert (bad["step"], bad["fault"], bad["loss"], bad["grad_norm"]) == (
        2, "not_finite", loss if loss == 1.0 else "nan", grad_norm if grad_norm == 1.0 else "inf",
    )  # fmt: skip
    assert bad["samples"] == [
        {
            "source": shares[sample.share].name,
            "category": None,
            "row": sample.source_row,
            "id": f"c{sample.source_row}" if shares[sample.share].name == "customer" else None,
        }
        for sample in samples
    ]
    for sample in samples:
        name = shares[sample.share].name
        shown = f"c{sample.source_row}" if name == "customer" else f"row {sample.source_row + 1}"
        assert f"{name} {shown}" in str(raised.value)


def test_a_step_whose_ids_cannot_be_read_is_still_named_by_its_rows(make_job: MakeJob) -> None:
    job = make_job()
    folder = Path(job.run.store.local_path(f"{job.run.layout.data}/rows/customer"))
    (folder / "part-00000.parquet").unlink()
    with join_ranks(use_gpu=False) as ranks, pytest.raises(TrainingError, match="the ids could not be read") as raised:
        StepGuard(job, ranks, []).check(0, job.samples.read_step(0), float("nan"), 1.0)
    assert "customer row " in str(raised.value)
