"""The model on all ranks: loaded once, sharded per decoder layer with FSDP2, with a loss that lives inside its forward pass.

Activation checkpointing is what the backward pass computes again in place of keeping it. `full` keeps a decoder layer's input and
computes the layer again. `selective` also keeps what is dear to compute and cheap to keep, the results of matrix products and of
attention, and computes the rest again: norms, rotations, activations.

Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html and .../checkpoint.html; Korthikanti et al.,
arXiv:2205.05198 (selective recomputation).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from safetensors import SafetensorError
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from training.engine.attention import PACKED
from training.engine.batches import IGNORE_INDEX, Batch
from training.engine.experts import choose_experts_kernel, divide_experts
from training.engine.linear_loss import choose_kernel, sum_cross_entropy_chunked, sum_cross_entropy_liger
from training.engine.process_group import Ranks
from training.engine.routing import watch_routing
from voc.errors import ModelError

if TYPE_CHECKING:  # a bare CUDA machine has no pydantic
    from voc.config.training import TrainingConfig

# transformers imports torchao wherever it is installed, which then names every kernel that this build of PyTorch cannot load.
logging.getLogger("torchao").setLevel(logging.ERROR)
_LOGIT_SETTINGS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
transformers_logging.disable_progress_bar()  # a bar that redraws itself is one endless line in a task's log


def load_model(folder: Path, training: TrainingConfig, ranks: Ranks) -> PreTrainedModel:
    """Load a model folder and make it ready to train on all ranks.

    Only the first rank reads the weights; the others hold empty pages until their shards arrive, so a machine needs one
    copy of the weights in memory and not one per rank.

    Returns:
        The model in training mode; its parameters have `training.master_dtype` and are `DTensor` shards on `ranks.device`, or
        whole where there is nothing to shard.
    """
    dtype = getattr(torch, training.master_dtype)
    model = read_weights(folder, dtype) if ranks.is_first else _allocate(folder, dtype)
    whole = model.state_dict() if ranks.is_first else {}
    make_trainable(model, training, ranks)
    if ranks.world_size > 1:
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=True)
        set_model_state_dict(model, whole, options=options)
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
    return model


def make_trainable(model: PreTrainedModel, training: TrainingConfig, ranks: Ranks) -> None:
    """Give a model its loss, its recomputation, its compiled layers and its shards, in place, and put it in training mode.

    Raises:
        ModelError: If the model, or the number of ranks, does not fit the settings.
    """
    if ranks.world_size % training.experts.parallel_size:
        raise ModelError(
            f"training.experts.parallel_size is {training.experts.parallel_size}, and {ranks.world_size} ranks train",
            expected="a number that divides them",
        )
    model.config.use_cache = False
    choose_experts_kernel(model, training.experts.implementation)
    watch_routing(model, training.experts.router_aux_loss_weight, ranks.device)
    attach_loss(model, choose_loss_kernel(model, training.loss_kernel, ranks.device), training.loss_chunk_tokens)
    for layer in list_layers(model):
        recompute_layer(layer, training.activation_checkpointing)
        if training.compile == "layers":
            # The function and not the module, so that FSDP's hooks stay outside.
            layer.forward = torch.compile(layer.forward)  # type: ignore[method-assign]
    if ranks.world_size > 1 or training.param_dtype != training.master_dtype:
        # FSDP moves layer after layer to the device as it shards them: the whole model may not fit there.
        shard_model(model, training.param_dtype, ranks, training.experts.parallel_size)
    else:
        torch.nn.Module.to(model, ranks.device)
    model.train()


def list_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """Return the decoder layers.

    Raises:
        ModelError: If the architecture does not name them.
    """
    names = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ModelError(
            f"{type(model).__name__} names no decoder layers to shard by",
            expected="an architecture of transformers with _no_split_modules",
        )
    return layers


def shard_model(model: PreTrainedModel, param_dtype: str, ranks: Ranks, expert_parallel_size: int = 1) -> None:
    """Shard every decoder layer by itself, and what is left with the root; experts as `training.engine.experts` says."""
    options: dict[str, Any] = {
        "mp_policy": MixedPrecisionPolicy(param_dtype=getattr(torch, param_dtype), reduce_dtype=torch.float32),
        # The ranks of a CPU run share one memory and a slow network: whole layers stay until the backward pass is done.
        "reshard_after_forward": ranks.device.type != "cpu",
    }
    if expert_parallel_size > 1:
        divide_experts(model, expert_parallel_size, ranks, options)
    mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))
    for layer in list_layers(model):
        fully_shard(layer, mesh=mesh, **options)
    fully_shard(model, mesh=mesh, **options)
    for name in ("packed_loss", "packed_logits"):
        register_fsdp_forward_method(model, name)


def attach_loss(model: PreTrainedModel, kernel: str, chunk: int) -> None:
    """Give a causal LM the methods `packed_loss(batch)` and `packed_logits(batch)`.

    They are methods because the weights of the output layer are whole only inside the forward pass of the sharded model.
    """
    model.packed_loss = partial(_compute_loss, model, kernel, chunk)  # type: ignore[assignment]
    model.packed_logits = partial(_compute_logits, model)  # type: ignore[assignment]


def compute_loss_sum(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return the cross-entropy summed over the learned tokens of a batch, float32."""
    loss: torch.Tensor = model.packed_loss(batch)  # type: ignore[operator]
    return loss


def compute_logits(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return float32 logits [N, V] at the batch's places."""
    logits: torch.Tensor = model.packed_logits(batch)  # type: ignore[operator]
    return logits.float()


def choose_loss_kernel(model: PreTrainedModel, wanted: str, device: torch.device) -> str:
    """Return the kernel of the loss.

    Raises:
        ModelError: If the wanted one cannot compute this model's logits.
    """
    odd = [n for n in _LOGIT_SETTINGS if getattr(model.config.get_text_config(), n, None) not in (None, 1, 1.0)]
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        odd.append("a bias of the output layer")
    if odd and wanted not in ("auto", "plain"):
        raise ModelError(
            f"training.loss_kernel is {wanted}, and {type(model).__name__} changes its logits by {', '.join(odd)}",
            expected="plain or auto for this model",
        )
    return "plain" if odd else choose_kernel(wanted, device)


def read_model(folder: Path) -> PreTrainedModel:
    """Read a model folder whole, in float32, on the CPU."""
    model = read_weights(folder, torch.float32).eval()
    attach_loss(model, "plain", 1)
    return model


def _make_inputs(batch: Batch) -> dict[str, Any]:
    """Return a batch under the names that transformers' models pass on to their attention."""
    shared = {} if batch.shared is None else {"shared": batch.shared}
    return {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "cu_seq_lens_q": batch.boundaries,
        "cu_seq_lens_k": batch.boundaries,
        "max_length_q": batch.longest,
        "max_length_k": batch.longest,
        "use_cache": False,
        **shared,
    }


def _compute_loss(model: PreTrainedModel, kernel: str, chunk: int, batch: Batch) -> torch.Tensor:
    if kernel == "plain":
        logits = _compute_logits(model, batch)
        return F.cross_entropy(logits.float(), batch.targets, ignore_index=IGNORE_INDEX, reduction="sum")
    hidden = model.base_model(**_make_inputs(batch)).last_hidden_state[0]
    chosen, weight = hidden[batch.places], model.get_output_embeddings().weight
    if not torch.is_grad_enabled():
        weight = weight.detach()  # else its gradient is made on the way and thrown away
    if kernel == "liger":
        return sum_cross_entropy_liger(chosen, weight, batch.targets)
    return sum_cross_entropy_chunked(chosen, weight, batch.targets, chunk=chunk)


def _compute_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    # forward and not __call__: this runs inside the sharded model's forward pass already.
    logits: torch.Tensor = model.forward(**_make_inputs(batch), logits_to_keep=batch.places).logits
    return logits[0]


def read_weights(folder: Path, dtype: torch.dtype, *, attention: str = PACKED) -> PreTrainedModel:
    """Read a model folder's safetensors in one dtype; neither pickles nor code of the folder are touched.

    Raises:
        ModelError: If they cannot be loaded, or lack a tensor of the architecture.
    """
    remedy = "check the folder: a shard may be missing or cut short"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
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


def _allocate(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder), dtype=dtype, attn_implementation=PACKED
        )
    model.to_empty(device="cpu")
    model.tie_weights()
    return model


_KEPT = (
    "aten.mm",
    "aten.addmm",
    "aten.bmm",
    "aten._grouped_mm",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "torch_attn._varlen_attn",
)


def recompute_layer(layer: torch.nn.Module, mode: str) -> None:
    """Make a layer's forward pass one that is computed again in the backward pass.

    Args:
        layer: A decoder layer.
        mode: `selective`, `full`, or `none`, which leaves it as it is.
    """
    if mode == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if mode == "selective":
        options["context_fn"] = _make_contexts
    layer.forward = partial(checkpoint, layer.forward, **options)  # type: ignore[method-assign]


def _make_contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    contexts: tuple[AbstractContextManager[Any], AbstractContextManager[Any]] = create_selective_checkpoint_contexts(
        _choose
    )
    return contexts


def _choose(_context: Any, operator: Callable[..., Any], *_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operator in _KEPT_OPERATORS else CheckpointPolicy.PREFER_RECOMPUTE


def _find_operators() -> Iterator[Any]:
    """Yield the overloads of the kept operators that this build of PyTorch has."""
    for name in _KEPT:
        space, _, operator = name.partition(".")
        packet = getattr(getattr(torch.ops, space), operator, None)
        if packet is not None:
            yield from (getattr(packet, overload) for overload in packet.overloads())


_KEPT_OPERATORS = frozenset(_find_operators())
