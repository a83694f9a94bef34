"""The model on all ranks: loaded once, sharded per decoder layer with FSDP2, float32 master weights.

Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from corpus.encode import IGNORE_INDEX
from training.packing import Batch
from training.process_group import Ranks
from voc.config import TrainingConfig
from voc.errors import ModelError

ATTENTION = "sdpa"
transformers_logging.disable_progress_bar()  # a bar that redraws itself is one endless line in a task's log


def load_model(folder: Path, training: TrainingConfig, ranks: Ranks) -> PreTrainedModel:
    """Load a model folder and shard it over the ranks.

    Only the first rank reads the weights; the others hold empty pages until their shards arrive, so a machine needs one
    copy of the weights in memory and not one per rank.

    Returns:
        The model in training mode, float32 parameters as `DTensor` shards on `ranks.device`.
    """
    model = _read_weights(folder) if ranks.is_first else _allocate(folder)
    model.config.use_cache = False
    if training.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    whole = model.state_dict() if ranks.is_first else {}
    shard_model(model, training.param_dtype, ranks)
    if ranks.world_size > 1:
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=True)
        set_model_state_dict(model, whole, options=options)
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
    return model.train()


def shard_model(model: PreTrainedModel, param_dtype: str, ranks: Ranks) -> None:
    """Shard every decoder layer by itself, and what is left with the root."""
    names = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ModelError(
            f"{type(model).__name__} names no decoder layers to shard by",
            expected="an architecture of transformers with _no_split_modules",
        )
    compute_dtype = None if param_dtype == "float32" else getattr(torch, param_dtype)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(ranks.device.type, (ranks.world_size,)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32),
        # The ranks of a CPU run share one memory and a slow network: whole layers stay until the backward pass is done.
        "reshard_after_forward": ranks.device.type != "cpu",
    }
    for layer in layers:
        fully_shard(layer, **options)
    fully_shard(model, **options)


def compute_logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return float32 logits [R, C, V] at the batch's `columns`, the places where any row learns."""
    output = model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, logits_to_keep=batch.columns
    )
    logits: torch.Tensor = output.logits
    return logits.float()


def compute_loss_sum(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return the cross-entropy summed over the learned tokens of a batch."""
    logits = compute_logits(model, batch)
    targets = batch.targets[:, batch.columns]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")


def read_model(folder: Path) -> PreTrainedModel:
    """Read a model folder whole, in float32, on the CPU."""
    return _read_weights(folder).eval()


def _read_weights(folder: Path) -> PreTrainedModel:
    remedy = "check the folder: a shard may be missing or cut short"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=ATTENTION, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the weights of {folder} cannot be loaded: {error}", remedy=remedy) from error
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {folder} lack {len(missing)} tensors of the architecture: {', '.join(missing[:3])}",
            expected="every tensor: transformers fills the others with random numbers",
            remedy=remedy,
        )
    return cast("PreTrainedModel", model)


def _allocate(folder: Path) -> PreTrainedModel:
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder), dtype=torch.float32, attn_implementation=ATTENTION
        )
    model.to_empty(device="cpu")
    model.tie_weights()
    return model
