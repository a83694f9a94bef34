"""Causal attention over documents that lie end to end in one row, each seeing only itself.

On CUDA one variable-length flash kernel takes all documents; elsewhere each document is one call of PyTorch's fused
attention. Either way the cost is the sum of the documents' squares and no mask exists, so a packed row costs and computes
what its documents do alone. Registered with transformers under `PACKED`; the boundaries travel under the names that
transformers gives to flash attention's.

Shapes: T tokens of a row, H query heads, K key-value heads, D numbers of a head.

Source: https://docs.pytorch.org/docs/stable/nn.attention.varlen.html, Dao, arXiv:2307.08691.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from transformers import AttentionInterface, AttentionMaskInterface

from voc.errors import ModelError

PACKED = "nightforge_packed"


def attend_packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend inside each document, causally.

    Args:
        module: The attention layer; not used.
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        attention_mask: None; the boundaries say all.
        cu_seq_lens_q: [documents + 1] int32 first token of each document, and T.
        max_length_q: Tokens of the longest document, or more.
        scaling: Factor of the scores; None: 1 / sqrt(D).
        dropout: Must be 0: the flash kernel has none.
        sliding_window: Must reach over every document.

    Returns:
        [1, T, H, D], and no attention weights.

    Raises:
        ModelError: If the model asks for what the kernels do not do.
    """
    if attention_mask is not None or dropout:
        raise ModelError(
            f"attention over packed documents was asked for a mask or for dropout {dropout}",
            expected="no mask and attention_dropout 0 in config.json",
        )
    if sliding_window is not None and sliding_window < max_length_q:
        raise ModelError(
            f"the model attends {sliding_window} tokens back, documents have up to {max_length_q}",
            expected="full attention, or a window as long as training.max_seq_len",
            remedy="lower training.max_seq_len",
        )
    if query.is_cuda:
        return _attend_varlen(query, key, value, cu_seq_lens_q, longest=max_length_q, scale=scaling), None
    return _attend_each(query, key, value, cu_seq_lens_q, scale=scaling), None


def _attend_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    *,
    longest: int,
    scale: float | None,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if k.size(1) != q.size(1):  # torch 2.11 takes equally many heads only
        k, v = (tensor.repeat_interleave(q.size(1) // k.size(1), dim=1) for tensor in (k, v))
    attended: Any = varlen_attn(q, k, v, boundaries, boundaries, longest, longest, scale=scale, window_size=(-1, 0))
    return cast("torch.Tensor", attended.unsqueeze(0))


def _attend_each(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, boundaries: torch.Tensor, *, scale: float | None
) -> torch.Tensor:
    lengths = boundaries.diff().tolist()
    parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
    attended = [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=q.size(1) != k.size(1))
        for q, k, v in parts
    ]
    return torch.cat(attended, dim=2).transpose(1, 2)


def _make_no_mask(*_: Any, **__: Any) -> None:
    """Stand where transformers builds a mask."""


AttentionInterface.register(PACKED, attend_packed)
AttentionMaskInterface.register(PACKED, _make_no_mask)
