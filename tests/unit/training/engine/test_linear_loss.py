from __future__ import annotations

import weakref

import pytest
import torch

from training.engine.batches import IGNORE_INDEX
from training.engine.linear_loss import choose_kernel, sum_cross_entropy_chunked, sum_cross_entropy_plain


def make_inputs(dtype: torch.dtype, places: int = 50) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    targets = torch.randint(0, 300, (places,))
    targets[::7] = IGNORE_INDEX
    hidden, weight = torch.randn(places, 16), torch.randn(300, 16) * 0.3
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_chunked_loss_and_its_gradients_are_the_plain_ones(
    chunk: int, dtype: torch.dtype, tolerance: float
) -> None:
    """Tolerances relative to the largest entry: 1e-5 in float32, 2e-2 (3 bits of 8 lost) in bfloat16."""
    found = []
    for compute in (lambda *a: sum_cross_entropy_chunked(*a, chunk=chunk), sum_cross_entropy_plain):
        hidden, weight, targets = make_inputs(dtype)
        loss = compute(hidden, weight, targets)
        (loss * 0.25).backward()
        found.append((loss.detach(), hidden.grad, weight.grad))
    for chunked, plain in zip(*found, strict=True):
        assert chunked.dtype == plain.dtype
        limit = tolerance * plain.abs().max().item()
        torch.testing.assert_close(chunked, plain, rtol=0, atol=limit)


def test_places_without_a_target_give_no_loss_and_no_gradient() -> None:
    hidden, weight, _ = make_inputs(torch.float32, 3)
    loss = sum_cross_entropy_chunked(hidden, weight, torch.full((3,), IGNORE_INDEX), chunk=2)
    loss.backward()
    assert loss.item() == 0
    assert not hidden.grad.any()
    assert not weight.grad.any()


def test_a_second_backward_pass_is_refused() -> None:
    loss = sum_cross_entropy_chunked(*make_inputs(torch.float32), chunk=8)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()


def test_logits_far_from_zero_neither_overflow_nor_vanish() -> None:
    found = []
    for compute in (lambda *a: sum_cross_entropy_chunked(*a, chunk=8), sum_cross_entropy_plain):
        hidden, weight, targets = make_inputs(torch.float32)
        loss = compute(hidden * 1000, weight, targets)
        loss.backward()
        found.append((loss.detach(), hidden.grad, weight.grad))
    for chunked, plain in zip(*found, strict=True):
        torch.testing.assert_close(chunked, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())


def test_no_more_than_a_chunk_of_logits_is_ever_held() -> None:
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            nonlocal largest
            result = operator(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.ndim == 2 and result.size(-1) == 300:
                largest = max(largest, result.size(0))
            return result

    hidden, weight, targets = make_inputs(torch.float32, 200)
    with Watch():
        sum_cross_entropy_chunked(hidden, weight, targets, chunk=16).backward()
    assert largest == 16


def test_without_gradients_only_the_loss_is_computed() -> None:
    hidden, weight, targets = make_inputs(torch.float32)
    with torch.no_grad():
        chunked = sum_cross_entropy_chunked(hidden, weight, targets, chunk=8)
    torch.testing.assert_close(chunked, sum_cross_entropy_plain(hidden, weight, targets).detach())


def test_auto_is_chunked_where_there_is_no_cuda_device() -> None:
    assert choose_kernel("auto", torch.device("cpu")) == "chunked"
    assert choose_kernel("plain", torch.device("cpu")) == "plain"


def test_a_chunk_is_gone_before_the_next_one_is_computed() -> None:
    alive: set[int] = set()
    most = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            nonlocal most
            result = operator(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and tuple(result.shape) == (13, 300):
                storage = result.untyped_storage()
                if storage.data_ptr() not in alive:
                    alive.add(storage.data_ptr())
                    weakref.finalize(storage, alive.discard, storage.data_ptr())
                most = max(most, len(alive))
            return result

    hidden, weight, targets = make_inputs(torch.float32, 208)
    with Watch():
        sum_cross_entropy_chunked(hidden, weight, targets, chunk=13).backward()
    assert most == 1
