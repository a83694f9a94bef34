"""Moments of 8 bits as plain tensors that fit any number of workers and come back as the very same bits.

torchao holds a moment as one code per number and one scale per block of 256 numbers of a *shard*, or as float32 where a shard
is small or no multiple of a block. So which numbers share a scale, and whether there is one, depends on the number of
workers. Written are the float32 numbers, and beside them their scales, one for each piece of a row that lies within one
block. With the scale known, each number is nearest to its own code. Without it the scale would be lost with a block whose
largest number is negative, because the table of codes ends at 1.0 and at -0.993.

Shapes: C numbers of a row (the last dimension, never sharded), B numbers of a block, P = gcd(C, B) numbers of a piece.

Source: https://github.com/pytorch/ao/tree/main/torchao/optim
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

MOMENTS = ("exp_avg", "exp_avg_sq")
_SCALE = "_scale"


def find_block_size(optimizers: Sequence[Optimizer]) -> int | None:
    """Return the numbers of a block if the moments are held in 8 bits, else None."""
    return next((int(o.block_size) for o in optimizers if hasattr(o, "block_size")), None)


def unpack_moments(state: dict[str, dict[str, Any]], block: int) -> dict[str, dict[str, Any]]:
    """Return the optimizer's state with float32 moments, and a `<moment>_scale` [..., C / P] beside each.

    Args:
        state: Name of a parameter -> its state.
        block: Numbers of a block.
    """
    unpacked = {name: dict(values) for name, values in state.items()}
    for values, moment in _list_moments(unpacked):
        tensor = values[moment]
        local: Any = _local(tensor)
        piece = _piece(tensor, block)
        shape = _shape_of_scales(local.shape, piece)
        scales = torch.zeros(shape, device=local.device)
        if _is_quantized(local):
            scales = local.scale.repeat_interleave(block // piece).view(shape)
            values[moment] = _like(tensor, local.dequantize(), tensor.shape)
        values[moment + _SCALE] = _like(tensor, scales, _shape_of_scales(tensor.shape, piece))
    return unpacked


def pack_moments(
    own: dict[str, dict[str, Any]], unpacked: dict[str, dict[str, Any]], block: int
) -> dict[str, dict[str, Any]]:
    """Return the state that `unpack_moments` unpacked, held as `own` holds it; 8-bit tensors of `own` are written over."""
    packed = {name: {k: v for k, v in values.items() if not k.endswith(_SCALE)} for name, values in unpacked.items()}
    for name, values in packed.items():
        for moment in MOMENTS:
            target = own[name].get(moment)
            if target is None or not _is_quantized(_local(target)):
                continue
            scales = _local(unpacked[name][moment + _SCALE]).reshape(-1, block // _piece(target, block))
            _write(_local(target), _local(values[moment]), scales)
            values[moment] = target
    return packed


def _write(target: Any, numbers: torch.Tensor, scales: torch.Tensor) -> None:
    """Write numbers into an 8-bit tensor.

    Args:
        target: The tensor.
        numbers: Of its shape, float32.
        scales: [blocks, pieces of a block] of the blocks that the numbers come from, 0 where there was none.
    """
    from torchao.optim.quant_utils import quantize_8bit_with_qmap

    target.copy_(numbers)  # blocks that have other borders now get codes and scales of their own
    same = (scales == scales[:, :1]).all(dim=1) & (scales[:, 0] > 0)
    blocks = numbers.reshape(len(scales), -1)[same]
    codes = quantize_8bit_with_qmap(blocks / scales[same, :1], target.qmap)
    target.codes.view(len(scales), -1)[same] = codes
    target.scale[same] = scales[same, 0]


def _list_moments(state: dict[str, dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    for values in state.values():
        yield from ((values, moment) for moment in MOMENTS if moment in values)


def _is_quantized(local: Any) -> bool:
    return bool(is_traceable_wrapper_subclass(local))


def _piece(tensor: torch.Tensor, block: int) -> int:
    """Return the numbers of a piece; a vector is sharded anywhere, so its pieces are single numbers."""
    return math.gcd(tensor.shape[-1], block) if tensor.ndim > 1 else 1


def _shape_of_scales(shape: torch.Size, piece: int) -> torch.Size:
    return torch.Size((*shape[:-1], shape[-1] // piece))


def _local(tensor: Any) -> Any:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _like(tensor: torch.Tensor, local: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return a local part as one of a tensor that is sharded as another one is."""
    if not isinstance(tensor, DTensor):
        return local
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, tensor.device_mesh, tensor.placements, run_check=False, shape=shape, stride=stride)
