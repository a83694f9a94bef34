from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from training.job import TrainingJob, is_trained, open_job
from training.prepare import prepare
from voc.errors import ConfigError, IntegrityError, TrainingError
from voc.run import Run

MakeRun = Callable[..., Run]
MakeJob = Callable[..., TrainingJob]


def test_an_arm_needs_prepared_data(make_run: MakeRun) -> None:
    with pytest.raises(TrainingError, match="is not prepared"):
        open_job(make_run(), "mixed")


def test_an_unknown_arm_names_the_known_ones(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match=r"no arm 'other'.*customer, mixed"):
        open_job(make_run(), "other")


def test_a_base_that_was_replaced_is_noticed(make_run: MakeRun, tiny_base: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    run = make_run(base=base)
    prepare(run)
    (base / "generation_config.json").write_text("{}")
    with pytest.raises(TrainingError, match="the data was prepared for"):
        open_job(run, "mixed")


def test_damaged_samples_are_noticed(make_job: MakeJob) -> None:
    job = make_job()
    job.run.store.write_bytes(f"{job.run.layout.data}/general.npz", b"damaged")
    with pytest.raises(IntegrityError, match=r"general\.npz has SHA-256"):
        _ = job.samples


def test_samples_follow_the_plan(make_job: MakeJob) -> None:
    job = make_job()
    order = job.samples.order
    assert len(order) == 32
    assert sum(source == 0 for source, _ in order) == 24
    step = job.samples.read_step(1, 8)
    expected = [job.samples.sources[s][r] for s, r in order[8:16]]
    assert [d.input_ids.tolist() for d in step] == [d.input_ids.tolist() for d in expected]


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"num_workers": 2, "log_every_steps": 1, "max_failures": 3}, True),
        ({"param_dtype": "bfloat16"}, False),
        ({"max_steps": 5}, False),
    ],
)
def test_only_settings_that_change_the_result_are_inputs(make_job: MakeJob, changes: dict, is_same: bool) -> None:
    assert (make_job("a").inputs == make_job("b", training=changes).inputs) is is_same


def test_an_arm_is_trained_when_both_its_directories_are(make_job: MakeJob) -> None:
    assert not is_trained(make_job())
