"""Bytes of what stays from step to step: weights, gradients and the optimizer's state, whole or sharded.

Source: FSDP2 shards the first dimension of each tensor and pads it (`torch.distributed.fsdp`); 8-bit moments have one
float32 scale per 256 numbers, and tensors below 4,096 numbers keep whole ones (`torchao.optim`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from voc.models.shapes import ModelShapes, Shape

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
BLOCK_NUMBERS = 256
LEAST_QUANTISED = 4096
_SCALE_BYTES = 4
_MAP_BYTES = 256 * 4


@dataclass(frozen=True, slots=True)
class BytesPerParameter:
    """What one parameter costs over all GPUs together: its place in each of the three kinds of state."""

    weights: float
    gradients: float
    optimizer: float

    def __str__(self) -> str:
        total = self.weights + self.gradients + self.optimizer
        return (
            f"{total:.3g} bytes per parameter: weights {self.weights:.3g}, gradients {self.gradients:.3g}, "
            f"optimizer {self.optimizer:.3g}"
        )


def shard(shape: Shape, ranks: int) -> int:
    """Return the numbers of a tensor that a rank holds; the first ranks have the most."""
    return math.ceil(shape[0] / ranks) * math.prod(shape[1:])


def count_optimizer(matrices: Iterable[Shape], rest: Iterable[Shape], *, name: str, size: int, ranks: int = 1) -> int:
    """Return the bytes of the optimizer's state on one rank.

    Args:
        matrices: Shapes of the two-dimensional weights between layers.
        rest: Shapes of the other parameters.
        name: `adamw`, `adamw_8bit` or `muon`.
        size: Bytes of a number of the master weights.
        ranks: Ranks that share the state.
    """
    if name == "muon":
        return sum(shard(s, ranks) * size for s in matrices) + sum(2 * shard(s, ranks) * size for s in rest)
    numbers = [shard(shape, ranks) for shape in [*matrices, *rest]]
    if name == "adamw":
        return 2 * size * sum(numbers)
    return 2 * sum(_count_8bit(n, size) for n in numbers)


def _count_8bit(numbers: int, size: int) -> int:
    if numbers < LEAST_QUANTISED or numbers % BLOCK_NUMBERS:
        return numbers * size
    return numbers + numbers // BLOCK_NUMBERS * _SCALE_BYTES + _MAP_BYTES


def split_shapes(shapes: ModelShapes) -> tuple[list[Shape], list[Shape]]:
    """Split the parameters of a model as `training.engine.optim` does: matrices between layers, and the rest."""
    outer: Shape = (shapes.vocab_size, shapes.hidden_size)
    every = shapes.list_all_tensors()
    matrices: list[Shape] = [shape for shape in every if len(shape) == 2 and shape != outer]
    return matrices, [shape for shape in every if len(shape) != 2 or shape == outer]


def measure_precision(
    matrices: Iterable[Shape], rest: Iterable[Shape], *, optimizer: str, master_dtype: str
) -> BytesPerParameter:
    """Return the bytes per parameter of a precision and an update rule."""
    matrices, rest = list(matrices), list(rest)
    size = DTYPE_BYTES[master_dtype]
    numbers = sum(math.prod(shape) for shape in [*matrices, *rest])
    return BytesPerParameter(size, size, count_optimizer(matrices, rest, name=optimizer, size=size) / max(numbers, 1))
