from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from corpus.ground.tasks import map_here
from corpus.mixing.order import TrainingOrder
from corpus.parts.part_files import open_tokens
from corpus.prepare import prepare
from training.job import TrainingJob, check_experts, is_trained, open_job
from voc.config.training import ExpertsConfig
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
    prepare(run, map_here)
    (base / "generation_config.json").write_text("{}")
    with pytest.raises(TrainingError, match="the data was prepared for"):
        open_job(run, "mixed")


def test_damaged_samples_are_noticed(make_job: MakeJob) -> None:
    job = make_job()
    job.run.store.write_bytes(f"{job.run.layout.samples('mixed')}/part-00000.arrow", b"damaged")
    with pytest.raises(IntegrityError, match=r"part-00000\.arrow has SHA-256"):
        job.samples.read_step(0)


def test_samples_follow_the_plan(make_job: MakeJob) -> None:
    job = make_job()
    strata, rows = TrainingOrder(job.plan).locate(0, 32)
    assert (strata == 0).sum() == 24
    folder = job.run.store.local_path(job.run.layout.data)
    tables = [open_tokens(folder / f"tokens/{share.name}/part-00000.arrow") for share in job.plan.shares]
    seen = [sample for step in range(job.samples.num_steps) for sample in job.samples.read_step(step)]
    assert len(seen) == 32
    for sample, stratum, row in zip(seen, strata.tolist(), rows.tolist(), strict=True):
        assert (sample.share, sample.source_row) == (stratum, row)
        assert sample.input_ids.tolist() == tables[stratum]["input_ids"][row].as_py()
        assert sample.learned.tolist() == tables[stratum]["learned"][row].as_py()
        assert (sample.labels == sample.input_ids).tolist() == sample.learned.tolist()


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"num_workers": 2, "log_every_steps": 1, "max_failures": 3}, True),
        ({"experts": {"implementation": "loop"}}, False),
        ({"param_dtype": "bfloat16"}, False),
        ({"max_steps": 5}, False),
    ],
)
def test_only_settings_that_change_the_result_are_inputs(make_job: MakeJob, changes: dict, is_same: bool) -> None:
    assert (make_job("a").inputs == make_job("b", training=changes).inputs) is is_same


def test_an_arm_is_trained_when_both_its_directories_are(make_job: MakeJob) -> None:
    assert not is_trained(make_job())


@pytest.mark.parametrize(
    ("model", "experts", "message"),
    [
        ({"model_type": "qwen3"}, {"router_aux_loss_weight": 0.01}, r"weight is 0\.01 and the base has no experts"),
        ({"model_type": "qwen3"}, {"parallel_size": 2}, "parallel_size is 2 and the base has no experts"),
        ({"num_experts": 6}, {"parallel_size": 4}, "parallel_size is 4 and the base has 6 experts"),
        ({"text_config": {"num_local_experts": 6}}, {"parallel_size": 4}, "the base has 6 experts"),
    ],
)
def test_settings_of_experts_that_do_not_fit_the_base_are_refused(model: dict, experts: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_experts(model, ExpertsConfig(**experts))


def test_settings_of_experts_that_fit_are_taken() -> None:
    check_experts({"num_experts": 8}, ExpertsConfig(parallel_size=4, router_aux_loss_weight=0.01))
    check_experts({"model_type": "qwen3"}, ExpertsConfig())


def test_a_dense_base_is_refused_before_a_worker_starts(make_run: MakeRun) -> None:
    run = make_run(training={"num_workers": 2, "experts": {"parallel_size": 2}})
    prepare(run, map_here)
    with pytest.raises(ConfigError, match="parallel_size is 2 and the base has no experts"):
        open_job(run, "mixed")
