"""Losses on held-out rows: right, the same on any number of ranks, harmless for the training, the same after a resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from corpus.mixing.samples import SampleReader
from tests.unit.training.validated import drop_times, make_validated, read_training
from training.engine.batches import Document, build_batch
from training.engine.model import compute_loss_sum, load_model, read_model
from training.engine.process_group import Ranks, join_ranks
from training.job import TrainingJob, open_job
from training.loop.train import train
from training.loop.validation import StratumLoss, Validation, combine_losses
from training.metrics import summarise
from voc.errors import TrainingError
from voc.mixture import Stratum
from voc.run import open_run
from voc.store.manifest import read_manifest

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    with join_ranks(use_gpu=False) as joined:
        yield joined


def measure_plainly(job: TrainingJob) -> dict[str, tuple[float, int]]:
    """Return the loss sum and the learned tokens of each stratum, one row at a time, all logits at once."""
    model = read_model(job.base.folder)
    reader = SampleReader(job.run.store, job.run.layout.validation, job.held_out)
    found = {}
    for index, fact in enumerate(job.held_out.facts["strata"]):
        documents = [Document(sample.input_ids, sample.labels) for sample in reader.read_step(index)]
        with torch.no_grad():
            losses = [float(compute_loss_sum(model, build_batch([document], pad_id=0))) for document in documents]
        found[str(Stratum(fact["name"], fact["category"]))] = (sum(losses), sum(d.num_targets for d in documents))
    return found


def test_losses_are_those_of_the_rows_one_by_one(make_job: MakeJob, tmp_path: Path, ranks: Ranks) -> None:
    job = make_validated(make_job, tmp_path)
    losses = Validation(job, ranks).measure(load_model(job.base.folder, job.training, ranks), 0)["validation"]
    plain = measure_plainly(job)
    assert list(losses["strata"]) == ["customer", "general", "general/chat", "general/general"]
    for name, (loss_sum, num_targets) in plain.items():
        assert losses["strata"][name] == pytest.approx(loss_sum / num_targets, rel=1e-5)
    general = [plain["general/chat"], plain["general/general"]]
    assert losses["general_loss"] == pytest.approx(sum(s for s, _ in general) / sum(n for _, n in general), rel=1e-5)
    assert losses["general_loss"] == losses["strata"]["general"]
    assert losses["customer_loss"] == losses["strata"]["customer"]
    assert losses["loss"] == pytest.approx(
        sum(s for s, _ in plain.values()) / sum(n for _, n in plain.values()), rel=1e-5
    )


def test_a_model_is_evaluated_before_the_first_step_after_the_last_and_in_between(
    make_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_validated(make_job, tmp_path, max_steps=5, validation={"every_steps": 3})
    reported: list[int] = []
    train(job, lambda figures: reported.append(figures["step"]))
    figures = read_training(job)
    assert [line["step"] for line in figures] == [0, 1, 2, 3, 4, 5]
    assert [line["step"] for line in figures if "validation" in line] == [0, 3, 5]
    assert reported == [2, 3, 4, 5], "at evaluations and checkpoints"
    assert figures[0].keys() == {"step", "validation", "validation_s"}
    facts = read_manifest(job.run.store, job.run.layout.export("mixed")).facts
    assert (facts["steps"], facts["stopped_by"]) == (5, "max_steps")
    assert facts["validation"] == figures[-1]["validation"]
    assert facts["validation_before"] == figures[0]["validation"]
    assert facts["validation"]["loss"] < facts["validation_before"]["loss"]
    assert facts["tokens"] == sum(line["tokens"] for line in figures[1:])
    assert {name: facts[name] for name in summarise(figures)} == summarise(figures)
    assert "held-out loss after step 0" in capsys.readouterr().out


def test_evaluating_changes_nothing_about_the_training(make_job: MakeJob, tmp_path: Path) -> None:
    often, seldom = (
        make_validated(make_job, tmp_path, name, validation={"every_steps": every})
        for name, every in (("often", 1), ("seldom", 100))
    )
    train(often)
    train(seldom)
    losses = [[line["loss"] for line in read_training(job)[1:]] for job in (often, seldom)]
    assert losses[0] == losses[1]
    assert [line["step"] for line in read_training(seldom) if "validation" in line] == [0, 4]


def test_a_resumed_run_has_the_evaluations_of_an_uninterrupted_one(make_job: MakeJob, tmp_path: Path) -> None:
    whole, broken = (make_validated(make_job, tmp_path, name) for name in ("whole", "broken"))
    train(whole)

    def stop(figures: dict) -> None:
        if figures["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(broken, stop)
    train(open_job(broken.run, broken.arm))
    assert list(map(drop_times, read_training(broken))) == list(map(drop_times, read_training(whole)))


def test_a_held_out_loss_that_is_no_number_stops_the_run(make_job: MakeJob, tmp_path: Path, ranks: Ranks) -> None:
    job = make_validated(make_job, tmp_path)
    model = load_model(job.base.folder, job.training, ranks)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the held-out loss is nan after step 7"):
        Validation(job, ranks).measure(model, 7)


def test_a_stratum_that_teaches_nothing_has_no_loss() -> None:
    found = [StratumLoss(Stratum("a"), "voc", 6.0, 3), StratumLoss(Stratum("b", "x"), "general", 0.0, 0)]
    assert combine_losses(found) == {"loss": 2.0, "customer_loss": 2.0, "strata": {"a": 2.0}}


def test_means_weigh_by_learned_tokens() -> None:
    found = [
        StratumLoss(Stratum("a"), "voc", 6.0, 3),
        StratumLoss(Stratum("b", "x"), "general", 4.0, 1),
        StratumLoss(Stratum("b", "y"), "general", 6.0, 4),
    ]
    assert combine_losses(found) == {
        "loss": 2.0,
        "customer_loss": 2.0,
        "general_loss": 2.0,
        "strata": {"a": 2.0, "b": 2.0, "b/x": 4.0, "b/y": 1.5},
    }


def train_on_rank(rank: int, folder: str, store_uri: str, run_id: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    train(open_job(open_run(store_uri, run_id), "mixed"))
    dist.destroy_process_group()


def test_two_ranks_measure_what_one_measures(make_job: MakeJob, tmp_path: Path) -> None:
    optimizer = {"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 1}
    alone = make_validated(make_job, tmp_path, "alone", optimizer=optimizer)
    shared = make_validated(make_job, tmp_path, "shared", optimizer=optimizer, num_workers=2)
    train(alone)
    mp.spawn(train_on_rank, (str(tmp_path), shared.run.store.uri, shared.run.layout.run_id), nprocs=2)
    one, two = read_training(alone), read_training(shared)
    assert two[0]["validation"] == one[0]["validation"], "the same weights, passes and sum: the same bits"
    for first, second in zip(one, two, strict=True):
        assert ("validation" in first) == ("validation" in second)
        if "validation" in first:
            assert second["validation"]["strata"] == pytest.approx(first["validation"]["strata"], rel=1e-4)
