"""The update rule: AdamW with whole or 8-bit moments, or Muon on matrices with AdamW on the rest; schedule and clipping.

Muon: `torch.optim.Muon` takes one matrix after the other and, with sharded ones, asks the ranks for pieces in every product of
its iteration; here each rank gathers once, iterates its share of the matrices, and passes the results on once. The
update rule and its scale are those of `torch.optim.Muon`. On CPUs the iteration runs in float32, which is several times
as fast there as bfloat16. Shapes: B matrices of one shape, M rows, N columns.

Moments of 8 bits, as plain tensors that fit any number of workers and come back as the very same bits: torchao holds a moment as
one code per number and one scale per block of 256 numbers of a *shard*, or as float32 where a shard is small or not a multiple of
a block. So which numbers share a scale, and whether there is one, depends on the number of workers. Written are the float32
numbers, and beside them their scales, one for each piece of a row that lies within one block. With the scale known, each number
is nearest to its own code. Without it the scale would be lost with a block whose largest number is negative, because the table of
codes ends at 1.0 and at -0.993. Shapes: C numbers of a row (the last dimension, never sharded), B numbers of a block, P =
gcd(C, B) numbers of a piece.

Source: decoupled weight decay, arXiv:1711.05101; Muon, https://kellerjordan.github.io/posts/muon/; 8-bit moments per block,
arXiv:2110.02861, by torchao (https://github.com/pytorch/ao/tree/main/torchao/optim), which takes FSDP2's shards.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedModel

from training.engine.experts import list_expert_layers
from voc.errors import ModelError

if TYPE_CHECKING:  # a bare CUDA machine has no pydantic
    from voc.config.training import OptimizerConfig

PEAK = "peak_learning_rate"


def split_parameters(model: PreTrainedModel) -> tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]:
    """Split the trainable parameters into (matrices, rest).

    Matrices are two-dimensional weights between layers; embeddings, the output head, norms, biases and what experts hold
    are the rest.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    outer = {id(module.weight) for module in ends if module is not None} | _find_expert_parameters(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim == 2 and id(p) not in outer]
    chosen = {id(p) for p in matrices}
    return matrices, [p for p in parameters if id(p) not in chosen]


def build_optimizers(model: PreTrainedModel, config: OptimizerConfig) -> list[Optimizer]:
    """Return the optimizers of a model; weight decay applies to matrices and to experts, which are stacks of them."""
    matrices, rest = split_parameters(model)
    betas = (config.beta1, config.beta2)
    inner = _find_expert_parameters(model)
    experts = [p for p in rest if id(p) in inner]
    # Experts are a group of their own: a fused step cannot take parameters that are sharded over different meshes, and
    # the groups must not depend on the number of ranks, or a checkpoint could not be resumed on another one.
    tail = [{"params": [p for p in rest if id(p) not in inner], "weight_decay": 0.0}]
    tail += [{"params": experts, "weight_decay": config.weight_decay}] if experts else []
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, *tail]
    if config.name == "adamw":
        optimizers: list[Optimizer] = [AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)]
    elif config.name == "adamw_8bit":
        optimizers = [_build_adamw_8bit(groups, config.learning_rate, betas)]
    else:
        optimizers = [
            Muon(matrices, lr=config.muon_learning_rate, weight_decay=config.weight_decay),
            AdamW(tail, lr=config.learning_rate, betas=betas, fused=True),
        ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group[PEAK] = float(group["lr"])
    return optimizers


def _find_expert_parameters(model: PreTrainedModel) -> set[int]:
    layers = list_expert_layers(model)
    return {id(parameter) for layer in layers for parameter in layer.experts.parameters(recurse=False)}


def _build_adamw_8bit(groups: list[dict[str, Any]], learning_rate: float, betas: tuple[float, float]) -> Optimizer:
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        raise ModelError(
            "training.optimizer.name is adamw_8bit and the package torchao is not installed",
            expected="torchao, which the Ray image has",
            remedy="install it, or take adamw",
        ) from error
    # Its step is compiled, and this cache takes the step of another rank's longer shard for its own: the moments have no hash.
    torch._functorch.config.enable_autograd_cache = False
    optimizer: Optimizer = AdamW8bit(groups, lr=learning_rate, betas=betas)
    return optimizer


def learning_rate_ratio(step: int, max_steps: int, config: OptimizerConfig) -> float:
    """Return the learning rate of a step (from 0) over the peak: linear warm-up, then linear to the final ratio."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    decay_steps = max(max_steps - 1 - config.warmup_steps, 1)
    progress = min((step - config.warmup_steps) / decay_steps, 1.0)
    return 1.0 + (config.final_learning_rate_ratio - 1.0) * progress


def set_learning_rates(optimizers: Sequence[Optimizer], ratio: float) -> None:
    """Set every group's rate to its peak times `ratio`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate = group[PEAK] * ratio
            if isinstance(group["lr"], torch.Tensor):  # torchao compiles its step: a number would be a constant of it
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def list_local_gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    """Return this rank's shards of all gradients."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [g.to_local() if isinstance(g, DTensor) else g for g in gradients]


def sum_squares(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the float32 sum of squares of some tensors; summed over ranks, it is the squared global norm."""
    norms = torch._foreach_norm(list(gradients), 2, dtype=torch.float32)
    return torch.stack(list(norms)).square().sum()


def clip_gradients(gradients: Sequence[torch.Tensor], norm: float, max_norm: float) -> None:
    """Scale gradients so that their global norm, which is `norm` now, is at most `max_norm`."""
    if norm > max_norm:
        torch._foreach_mul_(list(gradients), max_norm / norm)


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
        local: Any = _local_part(tensor)
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
            if target is None or not _is_quantized(_local_part(target)):
                continue
            scales = _local_part(unpacked[name][moment + _SCALE]).reshape(-1, block // _piece(target, block))
            _write(_local_part(target), _local_part(values[moment]), scales)
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


def _local_part(tensor: Any) -> Any:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _like(tensor: torch.Tensor, local: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return a local part as one of a tensor that is sharded as another one is."""
    if not isinstance(tensor, DTensor):
        return local
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, tensor.device_mesh, tensor.placements, run_check=False, shape=shape, stride=stride)
