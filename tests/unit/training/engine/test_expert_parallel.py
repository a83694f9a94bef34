"""Experts divided among ranks: gloo processes against one process that holds them all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from tests.tiny_model import make_tiny_model
from training.engine.batches import Document, build_batch
from training.engine.experts import list_expert_layers
from training.engine.model import load_model
from training.engine.optim import build_optimizers
from training.engine.process_group import join_ranks
from training.engine.step import compute_gradients, reduce_figures, update
from training.job import is_trained, open_job
from training.loop.train import train
from training.metrics import read_metrics
from voc.config.training import ExpertsConfig, OptimizerConfig, TrainingConfig
from voc.errors import ModelError
from voc.run import Run, open_run
from voc.store.manifest import verify_directory
from voc.store.uri import open_store

NUM_EXPERTS = 8
STEPS = 3
LENGTHS = ((20, 17), (9, 30), (25,), (11, 14, 8), (5,), (33,), (12, 6))  # of the documents of each forward pass


@pytest.fixture(scope="module")
def sparse_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "sparse", num_experts=NUM_EXPERTS)


def make_passes(step: int) -> list[list[Document]]:
    draw = np.random.default_rng(step)
    arrays = [[draw.integers(0, 300, length, dtype=np.int32) for length in part] for part in LENGTHS]
    return [[Document(ids, ids) for ids in part] for part in arrays]


def train_steps(base: str, world_size: int, parallel_size: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Make some clipped steps, this rank every `world_size`-th forward pass, and return what is to be compared."""
    training = TrainingConfig(
        num_workers=world_size,
        max_steps=STEPS,
        global_batch_size=world_size,
        max_seq_len=64,
        **{"param_dtype": "float32", **changes},
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.1),
        experts=ExpertsConfig(parallel_size=parallel_size, router_aux_loss_weight=0.1),
    )
    figures = []
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(Path(base), training, ranks)
        optimizers = build_optimizers(model, training.optimizer)
        for step in range(STEPS):
            documents = make_passes(step)
            mine = documents[ranks.rank :: world_size]
            mine += [[]] * (-(-len(documents) // world_size) - len(mine))
            passes = [build_batch(part, pad_id=0, padded_length=64) for part in mine]
            targets = sum(d.num_targets for part in documents for d in part)
            tokens = sum(map(len, [d for part in documents for d in part]))
            options = {"num_targets": targets, "num_tokens": tokens, "world_size": world_size}
            loss_sum = compute_gradients(model, passes, **options, syncs_every_pass=False)
            totals = reduce_figures(model, passes, loss_sum, targets)
            update(model, optimizers, totals.grad_norm, max_grad_norm=0.5)
            figures.append((totals.loss, totals.grad_norm, totals.routing.aux_loss))
        weights = {n: p.full_tensor() if isinstance(p, DTensor) else p for n, p in model.named_parameters()}
        held = sum(p.numel() if not isinstance(p, DTensor) else p.to_local().numel() for p in model.parameters())
        return {
            "figures": figures,
            "tokens": totals.routing.tokens,
            "weights": {name: weight.detach().clone() for name, weight in weights.items()},
            "held": held,
            "local_experts": [
                p.to_local().shape[0] if isinstance(p, DTensor) else p.shape[0]
                for layer in list_expert_layers(model)
                for p in layer.experts.parameters()
            ],
        }


def join(rank: int, world_size: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world_size)


def work_on_steps(rank: int, base: str, folder: str, world_size: int, parallel_size: int, changes: dict) -> None:
    join(rank, world_size, folder)
    torch.save(train_steps(base, world_size, parallel_size, changes), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("world_size", "parallel_size", "changes"),
    [
        (2, 2, {"activation_checkpointing": "full"}),
        (2, 2, {"activation_checkpointing": "selective"}),
        (4, 2, {"activation_checkpointing": "selective"}),
    ],
)
def test_ranks_that_share_experts_make_the_steps_of_one_that_has_them_all(
    sparse_base: Path, tmp_path: Path, world_size: int, parallel_size: int, changes: dict
) -> None:
    """Losses, norms and counts of three clipped AdamW steps, weights to a fiftieth of one step; and nobody holds it all."""
    arguments = (str(sparse_base), str(tmp_path), world_size, parallel_size, changes)
    mp.spawn(work_on_steps, arguments, nprocs=world_size)
    whole = train_steps(str(sparse_base), 1, 1, {})
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world_size)]
    for part in parts:
        for seen, expected in zip(part["figures"], whole["figures"], strict=True):
            assert seen == pytest.approx(expected, rel=1e-5)
        assert torch.equal(part["tokens"], whole["tokens"])
        assert set(part["local_experts"]) == {NUM_EXPERTS // parallel_size}
        assert part["weights"].keys() == whole["weights"].keys()
        for name, weight in whole["weights"].items():
            torch.testing.assert_close(part["weights"][name], weight, rtol=0, atol=2e-5, msg=name)
    assert sum(part["held"] for part in parts) == whole["held"]


def make_run_of(make_run: Callable[..., Run], name: str, base: Path, **training: Any) -> Run:
    settings = {"optimizer": {"name": "adamw", "learning_rate": 1e-2, "warmup_steps": 1}, **training}
    run = make_run(name, base=base, training=settings)
    prepare(run, map_here)
    return run


def work_on_job(rank: int, folder: str, uri: str, copy: str, run_id: str) -> None:
    """Train until the checkpoint of step 2, keep a copy of the store as it is then, go on from there to the end."""
    join(rank, 2, folder)
    job = open_job(open_run(uri, run_id), "mixed")

    def stop(figures: dict) -> None:
        if figures["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, stop)
    dist.barrier()
    if rank == 0:
        shutil.copytree(open_store(uri).local_path(""), copy)
    dist.barrier()
    train(open_job(open_run(uri, run_id), "mixed"))
    dist.destroy_process_group()


def read_result(run: Run) -> tuple[list[float], dict[str, torch.Tensor], dict]:
    folders = [run.store.local_path(path("mixed")) for path in (run.layout.training, run.layout.export)]
    losses = [line["loss"] for line in read_metrics(folders[0] / "metrics.jsonl")]
    load = json.loads((folders[0] / "expert_load.json").read_text())
    return losses, load_file(folders[1] / "model.safetensors"), load


def test_divided_experts_are_saved_resumed_and_exported_also_by_another_number_of_ranks(
    make_run: Callable[..., Run], sparse_base: Path, tmp_path: Path
) -> None:
    whole = make_run_of(make_run, "whole", sparse_base)
    train(open_job(whole, "mixed"))
    losses, weights, load = read_result(whole)
    shared = make_run_of(make_run, "shared", sparse_base, num_workers=2, experts={"parallel_size": 2})
    copy = tmp_path / "copy"
    arguments = (str(tmp_path), shared.store.uri, str(copy), shared.layout.run_id)
    mp.spawn(work_on_job, arguments, nprocs=2)
    alone = whole.config.training
    config = shared.config.model_copy(update={"training": alone})
    resumed = Run(open_store(str(copy)), shared.layout, config)
    assert not is_trained(open_job(resumed, "mixed"))
    train(open_job(resumed, "mixed"))
    for run in (shared, resumed):
        assert is_trained(open_job(run, "mixed"))
        verify_directory(run.store, run.layout.export("mixed"))
        seen_losses, seen_weights, seen_load = read_result(run)
        assert seen_losses == pytest.approx(losses, rel=1e-4)
        assert seen_weights.keys() == weights.keys()
        for name, weight in weights.items():
            # AdamW moves every number by up to the rate, 0.01, whatever the size of its gradient.
            assert (seen_weights[name] - weight).abs().mean() < 1e-4, name
        assert [(part["first_step"], part["last_step"]) for part in seen_load["intervals"]] == [(1, 2), (3, 4)]
        assert seen_load["layers"] == load["layers"]


def test_one_rank_cannot_be_two(sparse_base: Path) -> None:
    with join_ranks(use_gpu=False) as ranks, pytest.raises(ModelError, match="parallel_size is 2, and 1 ranks train"):
        training = TrainingConfig(
            num_workers=2,
            max_steps=1,
            global_batch_size=2,
            max_seq_len=64,
            optimizer=OptimizerConfig(learning_rate=1e-3),
            experts=ExpertsConfig(parallel_size=2),
        )
        load_model(sparse_base, training, ranks)
