from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from training.engine.optim import Muon, orthogonalise

SHAPES = ((8, 16), (16, 8), (8, 16), (12, 12))


def make_parameters() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def test_singular_values_come_close_to_one_and_directions_stay() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, 24, 16)
    results = orthogonalise(matrices)
    values = torch.linalg.svdvals(results)
    assert values.min() > 0.6
    assert values.max() < 1.3
    u, _, v = torch.linalg.svd(matrices[0], full_matrices=False)
    projected = u.T @ results[0] @ v.T
    assert (projected - torch.diag(projected.diagonal())).abs().max() < 1e-4


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_three_steps_are_those_of_torch(weight_decay: float) -> None:
    """torch iterates in bfloat16, hence the tolerance: a hundredth of the step that is made."""
    ours, theirs = make_parameters(), make_parameters()
    optimizers = [
        Muon(ours, lr=0.02, weight_decay=weight_decay),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=weight_decay),
    ]
    for step in range(3):
        torch.manual_seed(step + 1)
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for before, a, b in zip(make_parameters(), ours, theirs, strict=True):
        moved = (b - before).norm()
        assert (a - b).norm() < 0.02 * moved


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    parameters = make_parameters()
    parameters[1].grad = torch.ones_like(parameters[1])
    Muon(parameters, lr=0.1).step()
    changed = [not torch.equal(a, b) for a, b in zip(parameters, make_parameters(), strict=True)]
    assert changed == [False, True, False, False]


SHARDED_SHAPES = ((9, 16), (9, 16), (9, 16), (16, 8), (1, 4))


def make_whole(step: int) -> list[torch.Tensor]:
    torch.manual_seed(step)
    return [torch.randn(shape) for shape in SHARDED_SHAPES]


def train_whole() -> list[torch.Tensor]:
    parameters = [torch.nn.Parameter(tensor) for tensor in make_whole(0)]
    optimizer = Muon(parameters, lr=0.05, weight_decay=0.1)
    for step in (1, 2):
        for parameter, gradient in zip(parameters, make_whole(step), strict=True):
            parameter.grad = gradient
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def train_sharded(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    parameters = [torch.nn.Parameter(distribute_tensor(t, mesh, [Shard(0)])) for t in make_whole(0)]
    optimizer = Muon(parameters, lr=0.05, weight_decay=0.1)
    for step in (1, 2):
        for parameter, gradient in zip(parameters, make_whole(step), strict=True):
            parameter.grad = distribute_tensor(gradient, mesh, [Shard(0)])
        optimizer.step()
    results = [parameter.full_tensor().detach() for parameter in parameters]
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()


def test_two_ranks_make_the_steps_of_one_even_when_rows_do_not_divide(tmp_path: Path) -> None:
    mp.spawn(train_sharded, (str(tmp_path),), nprocs=2)
    for sharded, whole in zip(torch.load(tmp_path / "results.pt"), train_whole(), strict=True):
        torch.testing.assert_close(sharded, whole, rtol=1e-4, atol=1e-5)
