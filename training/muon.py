"""Muon for sharded and whole matrices: matrices of one shape together, their iterations shared among the ranks.

`torch.optim.Muon` takes one matrix after the other and, with sharded ones, asks the ranks for pieces in every product of
its iteration; here each rank gathers once, iterates its share of the matrices, and passes the results on once. The
update rule and its scale are those of `torch.optim.Muon`. On CPUs the iteration runs in float32, which is several times
as fast there as bfloat16.

Shapes: B matrices of one shape, M rows, N columns.

Source: https://kellerjordan.github.io/posts/muon/
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPSILON = 1e-7
_MAX_NUMBERS_AT_ONCE = 1 << 28


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, then the nearest orthogonal matrix as the update.

    Args:
        params: Two-dimensional parameters, whole or sharded by rows (`Shard(0)`) over a one-dimensional mesh.
        lr: Learning rate, multiplied by sqrt(max(1, rows / columns)).
        weight_decay: Decoupled weight decay.
        momentum: Share of the old average in the new one.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                at_once = max(1, _MAX_NUMBERS_AT_ONCE // shape.numel())
                for start in range(0, len(parameters), at_once):
                    self._update(parameters[start : start + at_once], group)

    def _update(self, parameters: Sequence[torch.nn.Parameter], group: dict[str, Any]) -> None:
        """Update parameters of one shape."""
        averages = [self._average(parameter, group["momentum"]) for parameter in parameters]
        rows, columns = parameters[0].shape
        updates = orthogonalise_sharded(averages, parameters[0])
        scale = group["lr"] * math.sqrt(max(1.0, rows / columns))
        for parameter, update in zip(parameters, updates, strict=True):
            _local(parameter).mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)

    def _average(self, parameter: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        """Return this rank's rows of the Nesterov momentum."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer, gradient = _local(state["momentum_buffer"]), _local(parameter.grad)
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def orthogonalise_sharded(shards: Sequence[torch.Tensor], like: torch.Tensor) -> list[torch.Tensor]:
    """Orthogonalise matrices of which every rank holds some rows.

    Args:
        shards: This rank's rows of B matrices.
        like: One of the whole parameters: its shape, and its mesh if it is a `DTensor`.

    Returns:
        This rank's rows of the results.
    """
    if not isinstance(like, DTensor) or like.device_mesh.size() == 1:
        return list(orthogonalise(torch.stack(list(shards))))
    mesh = like.device_mesh
    process_group, world_size, rank = mesh.get_group(), mesh.size(), mesh.get_local_rank()
    num_rows, num_columns = like.shape
    rows_per_rank = -(-num_rows // world_size)
    padded = shards[0].new_zeros(len(shards), rows_per_rank, num_columns)
    for index, shard in enumerate(shards):
        padded[index, : len(shard)] = shard
    gathered = [torch.empty_like(padded) for _ in range(world_size)]
    dist.all_gather(gathered, padded, group=process_group)
    whole = torch.cat(gathered, dim=1)[:, :num_rows].contiguous()
    results = torch.zeros_like(whole)
    if rank < len(shards):
        results[rank::world_size] = orthogonalise(whole[rank::world_size])
    dist.all_reduce(results, group=process_group)
    start = rank * rows_per_rank
    return [result[start : start + len(shard)] for result, shard in zip(results, shards, strict=True)]


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return nearly orthogonal matrices with the same singular vectors, by the quintic Newton-Schulz iteration.

    Args:
        matrices: [B, M, N] float32.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if is_tall else matrices
    x = x if x.device.type == "cpu" else x.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_EPSILON)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)


def _local(tensor: torch.Tensor | None) -> torch.Tensor:
    if isinstance(tensor, DTensor):
        return tensor.to_local()
    if tensor is None:
        raise RuntimeError("a parameter without a gradient has no update")
    return tensor
