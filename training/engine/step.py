"""One optimizer step in pure torch: gradients of some forward passes, their norm, clipping, the update.

The loss of a step is the sum over its learned tokens divided by their number on *all* ranks, so it does not depend on the
number of workers or on how samples fall into passes. The load-balancing loss of routers, where it is asked for, is minimised with
it and reported beside it (`training.engine.routing`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.optim import Optimizer

from training.engine.batches import Batch
from training.engine.model import compute_loss_sum
from training.engine.optim import clip_gradients, list_local_gradients, sum_squares
from training.engine.routing import StepRouting, get_routing


@dataclass(frozen=True, slots=True)
class StepTotals:
    """The figures of a step, equal on all ranks.

    Attributes:
        loss: Cross-entropy per learned token.
        grad_norm: Global norm of the gradients.
        computed_tokens: Tokens of all passes, without padding; those that samples share count once.
        routing: What the routers did; None for a dense model.
    """

    loss: float
    grad_norm: float
    computed_tokens: int
    routing: StepRouting | None


def compute_gradients(
    model: torch.nn.Module,
    passes: Sequence[Batch],
    *,
    num_targets: int,
    num_tokens: int,
    world_size: int,
    syncs_every_pass: bool,
) -> torch.Tensor:
    """Run the forward and backward passes of one step on this rank.

    Args:
        model: A model with a `packed_loss`, the same number of passes on every rank.
        passes: This rank's passes, on its device.
        num_targets: Learned tokens of the step, on all ranks.
        num_tokens: All tokens of the step's samples, on all ranks.
        world_size: Ranks.
        syncs_every_pass: Reduce gradients after each pass and hold shards only; else once, after the last pass.

    Returns:
        This rank's sum of the cross-entropy, float32.
    """
    routing = get_routing(model)
    loss_sum = torch.zeros((), device=passes[0].input_ids.device)
    for index, batch in enumerate(passes):
        if isinstance(model, FSDPModule):
            model.set_requires_gradient_sync(syncs_every_pass or index == len(passes) - 1)
        recording: AbstractContextManager[Callable[[], torch.Tensor] | None]
        recording = routing.record(batch) if routing else nullcontext()
        with recording as sum_aux_loss:
            loss = compute_loss_sum(model, batch)
        # FSDP averages gradients over the ranks; the loss is a sum over all of them.
        objective = loss * (world_size / num_targets)
        if routing and sum_aux_loss:
            objective = objective + sum_aux_loss() * (routing.aux_loss_weight * world_size / num_tokens)
        objective.backward()
        loss_sum += loss.detach()
    return loss_sum


def reduce_figures(
    model: torch.nn.Module, passes: Sequence[Batch], loss_sum: torch.Tensor, num_targets: int
) -> StepTotals:
    """Return the step's figures over all ranks, by one reduction."""
    routing = get_routing(model)
    squares = sum_squares(list_local_gradients(model))
    computed = loss_sum.new_full((), sum(batch.num_tokens for batch in passes), dtype=torch.float64)
    parts = [torch.stack([loss_sum.double(), squares.to(loss_sum.device).double(), computed])]
    if routing:
        parts.append(routing.list_totals())
    totals = torch.cat(parts)
    dist.all_reduce(totals)
    total_loss, total_squares, total_tokens, *routed = totals.tolist()
    step_routing = routing.read_totals(routed) if routing else None
    return StepTotals(total_loss / num_targets, math.sqrt(total_squares), int(total_tokens), step_routing)


def discard(optimizers: Sequence[Optimizer]) -> None:
    """Drop the gradients of a step that is not made; weights and optimizers stay as they are."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)


def update(model: torch.nn.Module, optimizers: Sequence[Optimizer], grad_norm: float, max_grad_norm: float) -> None:
    """Clip the gradients, whose global norm is `grad_norm`, and let every optimizer make its step."""
    clip_gradients(list_local_gradients(model), grad_norm, max_grad_norm)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
