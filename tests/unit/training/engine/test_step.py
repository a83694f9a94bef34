"""One optimizer step on two gloo ranks against the same step in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.utils._python_dispatch import TorchDispatchMode

from training.engine.batches import IGNORE_INDEX, Document, build_batch, plan_passes
from training.engine.model import load_model
from training.engine.optim import build_optimizers
from training.engine.process_group import join_ranks
from training.engine.step import compute_gradients, reduce_figures, update
from voc.config.training import OptimizerConfig, TrainingConfig

LENGTHS = [20, 30, 25, 12, 28, 17]
MAX_GRAD_NORM = 0.5


class CountReductions(TorchDispatchMode):
    """Counts the reduce-scatters that are started inside."""

    count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "reduce_scatter" in str(operator)
        return operator(*args, **(kwargs or {}))


def make_documents() -> list[Document]:
    draw = np.random.default_rng(5)
    documents = []
    for length in LENGTHS:
        ids = draw.integers(0, 300, length, dtype=np.int32)
        documents.append(Document(ids, np.where(np.arange(length) >= length // 3, ids, IGNORE_INDEX)))
    return documents


def make_step(base: str, num_workers: int, **settings: Any) -> dict[str, Any]:
    """Make one clipped AdamW step and return what is to be compared, whole."""
    training = TrainingConfig(
        num_workers=num_workers, max_steps=1, global_batch_size=6, max_seq_len=40,
        optimizer=OptimizerConfig(learning_rate=1e-3), **{"param_dtype": "float32", **settings},
    )  # fmt: skip
    documents = make_documents()
    targets = sum(document.num_targets for document in documents)
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(Path(base), training, ranks)
        optimizers = build_optimizers(model, training.optimizer)
        mine = plan_passes(LENGTHS, ranks.world_size, 40)[ranks.rank]
        passes = [build_batch([documents[i] for i in part], pad_id=0) for part in mine]
        with CountReductions() as watch:
            loss_sum = compute_gradients(
                model,
                passes,
                num_targets=targets,
                num_tokens=sum(LENGTHS),
                world_size=ranks.world_size,
                syncs_every_pass=training.gradient_sync == "every_pass",
            )
        totals = reduce_figures(model, passes, loss_sum, targets)
        loss, norm = totals.loss, totals.grad_norm
        update(model, optimizers, norm, MAX_GRAD_NORM)
        weights = {
            name: (p.full_tensor() if hasattr(p, "full_tensor") else p).detach().clone()
            for name, p in model.named_parameters()
        }
        dtypes = {p.dtype for p in model.parameters()} | {
            v.dtype for o in optimizers for s in o.state.values() for v in s.values() if v.ndim
        }
    return {
        "loss": loss, "norm": norm, "weights": weights, "reduced": watch.count, "passes": len(passes), "dtypes": dtypes,
    }  # fmt: skip


def make_steps_on_rank(rank: int, folder: str, base: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = [make_step(base, 2, gradient_sync=how) for how in ("last_pass", "every_pass")]
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def on_two_ranks(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(make_steps_on_rank, (str(folder), str(tiny_base)), nprocs=2)
    return torch.load(folder / "results.pt")


@pytest.fixture(scope="module")
def alone(tiny_base: Path) -> dict[str, Any]:
    return make_step(str(tiny_base), 1)


@pytest.mark.parametrize("how", [0, 1], ids=["last_pass", "every_pass"])
def test_two_ranks_have_the_loss_the_norm_and_after_clipping_the_weights_of_one(
    on_two_ranks: list[dict[str, Any]], alone: dict[str, Any], how: int
) -> None:
    together = on_two_ranks[how]
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-6)
    assert together["norm"] == pytest.approx(alone["norm"], rel=1e-5)
    assert alone["norm"] > MAX_GRAD_NORM
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(together["weights"][name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_gradients_are_reduced_once_a_step_however_many_passes_it_has(on_two_ranks: list[dict[str, Any]]) -> None:
    once, every = on_two_ranks
    assert once["passes"] == every["passes"] > 1
    assert every["reduced"] == every["passes"] * once["reduced"] > 0


def test_bfloat16_masters_keep_everything_in_two_bytes_and_float32_ones_in_four(tiny_base: Path) -> None:
    settings = {"param_dtype": "bfloat16"}
    assert make_step(str(tiny_base), 1, **settings)["dtypes"] == {torch.float32}
    assert make_step(str(tiny_base), 1, **settings, master_dtype="bfloat16")["dtypes"] == {torch.bfloat16}
