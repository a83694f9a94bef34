import pytest
import torch

from demo.muon import Muon, orthogonalise


def train_two_steps(optimizer_class, **options):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((8, 4), (4, 8), (8, 4))]
    optimizer = optimizer_class(weights, lr=0.1, weight_decay=0.01, **options)
    for _ in range(2):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return weights


def test_it_makes_the_updates_of_torch_up_to_bfloat16():
    for ours, theirs in zip(train_two_steps(Muon), train_two_steps(torch.optim.Muon), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=0)


@pytest.mark.parametrize("shape", [(1, 6, 6), (3, 8, 4), (2, 4, 8)])
def test_updates_have_singular_values_near_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_parameter_without_gradient_stays():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, torch.ones(2, 2))
