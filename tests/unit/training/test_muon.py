from __future__ import annotations

import pytest
import torch

from training.muon import Muon, orthogonalise

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
