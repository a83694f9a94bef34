"""Cross-entropy of an output layer without all of its logits: a chunk of places at a time, gradients made on the way.

A chunk's logits live for one product forward and two backward, so memory is `chunk x vocabulary` whatever the number of
tokens. The gradient for the weight is summed in float32. `torch.nn.functional.linear_cross_entropy` does the same; it was
three to four times slower on a CPU (docs/log.md) and is not in torch 2.11. On CUDA Liger's kernels are used where they are.

Shapes: N places, E hidden size, V vocabulary.

Source: gradients in the forward pass as in Liger Kernel, Hsu et al., arXiv:2410.10989.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from training.engine.batches import IGNORE_INDEX


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, chunk: int
    ) -> torch.Tensor:
        needs_hidden, needs_weight, *_ = ctx.needs_input_grad
        hidden_grad = torch.empty_like(hidden) if needs_hidden else None
        weight_grad = torch.zeros_like(weight, dtype=torch.float32) if needs_weight else None
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), chunk):
            places = slice(start, start + chunk)
            part_grad = None if hidden_grad is None else hidden_grad[places]
            loss += _compute_chunk(hidden[places], weight, targets[places], part_grad, weight_grad)
        # Not as saved tensors: backward scales them where they are, and the weight's may be a large part of the memory.
        ctx.gradients = hidden_grad, None if weight_grad is None else weight_grad.to(weight.dtype)
        return loss

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:  # type: ignore[override]
        if ctx.gradients is None:
            raise RuntimeError("the chunked loss has one backward pass: its gradients are handed out, not copied")
        gradients, ctx.gradients = ctx.gradients, None
        hidden_grad, weight_grad = (None if g is None else g.mul_(scale.to(g.dtype)) for g in gradients)
        return hidden_grad, weight_grad, None, None


def _compute_chunk(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    hidden_grad: torch.Tensor | None,
    weight_grad: torch.Tensor | None,
) -> torch.Tensor:
    """Return the loss sum of a chunk, write its gradient for `hidden`, and add the one for the weight.

    Logits become probabilities and then errors where they are; a function, so that they are gone before the next chunk's.
    """
    is_learned = targets != IGNORE_INDEX
    index = targets.clamp(min=0).unsqueeze(1)
    logits = F.linear(hidden, weight).float()
    picked = logits.gather(1, index)
    highest = logits.amax(dim=1, keepdim=True)
    logits.sub_(highest).exp_()
    total = logits.sum(dim=1, keepdim=True)
    loss = ((total.log() + highest - picked).squeeze(1) * is_learned).sum()
    if hidden_grad is None and weight_grad is None:
        return loss
    logits.mul_(is_learned.unsqueeze(1) / total)
    logits.scatter_add_(1, index, -is_learned.to(logits.dtype).unsqueeze(1))
    errors = logits.to(hidden.dtype)
    if hidden_grad is not None:
        torch.mm(errors, weight, out=hidden_grad)
    if weight_grad is not None:
        _add_product(weight_grad, errors, hidden)
    return loss


def _add_product(total: torch.Tensor, errors: torch.Tensor, hidden: torch.Tensor) -> None:
    """Add errors.T @ hidden to a float32 sum."""
    if errors.dtype == torch.float32:
        total.addmm_(errors.T, hidden)
    else:
        total += errors.T @ hidden


def sum_cross_entropy_chunked(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, *, chunk: int
) -> torch.Tensor:
    """Return the cross-entropy summed over the places with a target; backward once.

    Args:
        hidden: [N, E] last hidden states.
        weight: [V, E] the output layer.
        targets: [N] next tokens, or `IGNORE_INDEX`.
        chunk: Places whose logits are held at once.
    """
    return _ChunkedLoss.apply(hidden, weight, targets, chunk)


def sum_cross_entropy_liger(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the same by Liger's fused kernels, on CUDA."""
    from liger_kernel.ops import LigerFusedLinearCrossEntropyFunction

    result = LigerFusedLinearCrossEntropyFunction.apply(
        hidden, weight, targets, None, None, IGNORE_INDEX, 0.0, 0.0, "sum"
    )
    return result[0] if isinstance(result, tuple) else result


def sum_cross_entropy_plain(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the same with all logits at once, in float32: the reference."""
    return F.cross_entropy(F.linear(hidden, weight).float(), targets, ignore_index=IGNORE_INDEX, reduction="sum")


def choose_kernel(wanted: str, device: torch.device) -> str:
    """Return the kernel that `auto` stands for on this device: liger on CUDA where it is installed, else chunked."""
    if wanted != "auto":
        return wanted
    return "liger" if device.type == "cuda" and importlib.util.find_spec("liger_kernel") else "chunked"
