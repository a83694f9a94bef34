"""`voc.memory.parts` against autograd. Here and not beside voc's tests, because it needs training's attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training.engine.batches import Document
from training.engine.attention import PACKED
from training.engine.model import attach_loss
from training.engine.batches import build_batch
from voc.memory.parts import count_kept
from training.engine.model import list_layers
from training.engine.model import recompute_layer
from voc.models.shapes import read_shapes

NUMBERS: dict[str, Any] = {
    "vocab_size": 500,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "norm_topk_prob": True}
TOKENS = 128


def measure_saved(numbers: dict[str, Any], dtype: torch.dtype, mode: str) -> int:
    """Return the bytes of the distinct storages that autograd saves in the second layer, weights left out."""
    config = AutoConfig.for_model(
        numbers["model_type"], **{key: value for key, value in numbers.items() if key != "model_type"}
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=PACKED).train()
    if "num_experts" in numbers:
        model.set_experts_implementation("grouped_mm")
    attach_loss(model, "chunked", 64)
    layer = list_layers(model)[1]
    recompute_layer(layer, mode)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}
    inside = [False]
    before: set[int] = set()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            if inside[0] and storage.data_ptr() not in before:
                saved[storage.data_ptr()] = storage
            elif not inside[0]:
                before.add(storage.data_ptr())
        return tensor

    layer.register_forward_pre_hook(lambda *_: inside.__setitem__(0, True))
    layer.register_forward_hook(lambda *_: inside.__setitem__(0, False))
    ids = np.random.default_rng(0).integers(0, numbers["vocab_size"], TOKENS)
    batch = build_batch([Document(part, part) for part in np.split(ids, 2)], pad_id=0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.packed_loss(batch)
    assert loss.requires_grad
    return sum(storage.nbytes() for storage in saved.values())


@pytest.mark.parametrize("mode", ["none", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("has_experts", [False, True])
def test_a_layer_keeps_what_autograd_saves_byte_for_byte(has_experts: bool, dtype: str, mode: str) -> None:
    numbers = {**NUMBERS, "model_type": "qwen3"}
    if has_experts:
        numbers = {**NUMBERS, **EXPERTS, "model_type": "qwen3_moe"}
    shapes = read_shapes(numbers, "config.json")
    size = getattr(torch, dtype).itemsize
    counted = count_kept(shapes, TOKENS, size, mode=mode, device="cpu", with_experts=has_experts)
    assert counted == measure_saved(numbers, getattr(torch, dtype), mode)
