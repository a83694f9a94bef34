"""Activation checkpointing: what the backward pass computes again in place of keeping it.

`full` keeps a decoder layer's input and computes the layer again. `selective` also keeps what is dear to compute and cheap to
keep, the results of matrix products and of attention, and computes the rest again: norms, rotations, activations.

Source: https://docs.pytorch.org/docs/stable/checkpoint.html, Korthikanti et al., arXiv:2205.05198 (selective recomputation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

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
