"""The update rule: AdamW with whole or 8-bit moments, or Muon on matrices with AdamW on the rest; schedule and clipping.

Source: decoupled weight decay, arXiv:1711.05101; 8-bit moments per block, arXiv:2110.02861, by torchao, which takes FSDP2's
shards; Muon, `training.muon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel

from training.experts import list_expert_layers
from training.muon import Muon
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
