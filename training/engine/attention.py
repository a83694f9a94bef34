"""Causal attention over documents that lie end to end in one row, each seeing only itself.

On CUDA one variable-length flash kernel takes all documents; elsewhere each document is one call of PyTorch's fused
attention. Either way the cost is the sum of the documents' squares and no mask exists, so a packed row costs and computes
what its documents do alone. Where documents share a beginning that stands in the row once (`prefixes`), each one's keys
are those of the beginning and then its own, and the causal triangle is aligned at the end. Registered with transformers
under `PACKED`; the boundaries travel under the names that transformers gives to flash attention's.

Shapes: T tokens of a row, H query heads, K key-value heads, D numbers of a head.

Source: https://docs.pytorch.org/docs/stable/nn.attention.varlen.html, Dao, arXiv:2307.08691.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from transformers import AttentionInterface, AttentionMaskInterface

from training.engine.batches import SharedPrefixes
from training.engine.prefixes import NO_STEM
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
    shared: SharedPrefixes | None = None,
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
        shared: Which documents continue another one; None: none does.
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
        keys_end = cu_seq_lens_q
        if shared is not None:
            key, value = (torch.cat(_continue_stems(part, shared), dim=2) for part in (key, value))
            keys_end = shared.key_boundaries
        return _attend_varlen(query, key, value, (cu_seq_lens_q, keys_end), longest=max_length_q, scale=scaling), None
    lengths = cu_seq_lens_q.diff().tolist() if shared is None else list(shared.lengths)
    keys, values = (
        part.split(lengths, dim=2) if shared is None else _continue_stems(part, shared) for part in (key, value)
    )
    return _attend_each(query.split(lengths, dim=2), keys, values, scale=scaling), None


def _continue_stems(tensor: torch.Tensor, shared: SharedPrefixes) -> list[torch.Tensor]:
    """Return [1, K, stem + own, D] for each segment of a tensor [1, K, T, D].

    Slices and no gather: adding up a stem's gradients in the order of its documents is deterministic.
    """
    parts = tensor.split(list(shared.lengths), dim=2)
    return [
        part if stem == NO_STEM else torch.cat([parts[stem], part], dim=2)
        for part, stem in zip(parts, shared.stems, strict=True)
    ]


def _attend_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: tuple[torch.Tensor, torch.Tensor],
    *,
    longest: int,
    scale: float | None,
) -> torch.Tensor:
    """Attend with one kernel; `boundaries` are the queries' and the keys'. Its triangle is aligned at the end."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    if k.size(1) != q.size(1):  # torch 2.11 takes equally many heads only
        k, v = (tensor.repeat_interleave(q.size(1) // k.size(1), dim=1) for tensor in (k, v))
    attended: Any = varlen_attn(q, k, v, *boundaries, longest, longest, scale=scale, window_size=(-1, 0))
    return cast("torch.Tensor", attended.unsqueeze(0))


def _attend_each(
    queries: Sequence[torch.Tensor],
    keys: Sequence[torch.Tensor],
    values: Sequence[torch.Tensor],
    *,
    scale: float | None,
) -> torch.Tensor:
    attended = []
    for q, k, v in zip(queries, keys, values, strict=True):
        triangle: dict[str, Any] = {"is_causal": True}
        if q.size(2) != k.size(2):  # PyTorch aligns its own triangle at the beginning
            triangle = {"attn_mask": q.new_ones(q.size(2), k.size(2), dtype=torch.bool).tril(k.size(2) - q.size(2))}
        attended.append(
            F.scaled_dot_product_attention(q, k, v, **triangle, scale=scale, enable_gqa=q.size(1) != k.size(1))
        )
    return torch.cat(attended, dim=2).transpose(1, 2)


def _make_no_mask(*_: Any, **__: Any) -> None:
    """Stand where transformers builds a mask."""


AttentionInterface.register(PACKED, attend_packed)
AttentionMaskInterface.register(PACKED, _make_no_mask)
