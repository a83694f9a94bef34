"""Muon in float32, matrices of one shape together.

`torch.optim.Muon` runs its iteration in bfloat16, one matrix after the other; on a CPU without bfloat16 arithmetic that
takes eleven times as long as this, and longer than a tiny model's forward and backward pass together.

Source: https://kellerjordan.github.io/posts/muon/; the update rule and the scale are those of `torch.optim.Muon`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, then the nearest orthogonal matrix as the update.

    Args:
        params: Two-dimensional parameters.
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
                updates = orthogonalise(torch.stack([self._average(p, group["momentum"]) for p in parameters]))
                scale = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)

    def _average(self, parameter: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        gradient = parameter.grad
        if gradient is None:
            raise RuntimeError("a parameter without a gradient has no update")
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum_buffer"], momentum)


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return nearly orthogonal matrices with the same singular vectors, by the quintic Newton-Schulz iteration.

    Args:
        matrices: Of shape (number, rows, columns), float32.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_EPSILON)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
