"""The shapes of a decoder-only language model, from its config.json: what a memory plan and a parameter count are made of.

Knows the architectures whose layers are attention and SwiGLU or experts: Llama, Mistral, Qwen2, Qwen3, Qwen3-MoE.

Source: the model code of transformers 5 for each architecture; a test compares the counts with its models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voc.errors import ModelError

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe")
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelShapes:
    """The numbers of a config.json that decide what a model holds and computes.

    Attributes:
        model_type: One of `ARCHITECTURES`.
        hidden_size: Numbers of a hidden state (E).
        intermediate_size: Inner width of a dense feed-forward block (F).
        num_layers: Decoder layers.
        num_heads: Query heads (H).
        num_kv_heads: Key-value heads (K).
        head_dim: Numbers of a head (D).
        vocab_size: Rows of the embedding (V).
        is_tied: The output layer is the embedding.
        num_experts: Experts of a mixture-of-experts layer; 0: all layers are dense.
        experts_per_token: Experts that a token goes through.
        expert_size: Inner width of one expert.
        num_expert_layers: Layers with experts.
        has_qkv_bias: The query, key and value projections have biases.
        has_output_bias: The attention's output projection has one too.
        has_mlp_bias: The feed-forward projections have biases.
    """

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    is_tied: bool
    num_experts: int = 0
    experts_per_token: int = 0
    expert_size: int = 0
    num_expert_layers: int = 0
    has_qkv_bias: bool = False
    has_output_bias: bool = False
    has_mlp_bias: bool = False

    @property
    def has_head_norms(self) -> bool:
        """True where queries and keys are normalised head by head."""
        return self.model_type.startswith("qwen3")

    def list_layer_tensors(self, *, with_experts: bool) -> list[Shape]:
        """Return the shape of every parameter of a decoder layer, with experts or dense."""
        hidden, queries, keys = self.hidden_size, self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        shapes: list[Shape] = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]
        shapes += [(queries,), (keys,), (keys,)] if self.has_qkv_bias else []
        shapes += [(hidden,)] if self.has_output_bias else []
        shapes += [(self.head_dim,)] * 2 if self.has_head_norms else []
        shapes += [(hidden,)] * 2
        if with_experts:
            return [*shapes, (self.num_experts, hidden), *self.list_expert_tensors()]
        inner = self.intermediate_size
        shapes += [(inner,), (inner,), (hidden,)] if self.has_mlp_bias else []
        return [*shapes, (inner, hidden), (inner, hidden), (hidden, inner)]

    def list_expert_tensors(self) -> list[Shape]:
        """Return the shapes of a layer's expert weights, all experts in one tensor."""
        return [
            (self.num_experts, 2 * self.expert_size, self.hidden_size),
            (self.num_experts, self.hidden_size, self.expert_size),
        ]

    def list_root_tensors(self) -> list[Shape]:
        """Return the shapes of what lies outside the layers: embedding, output layer unless it is tied, last norm."""
        ends = [(self.vocab_size, self.hidden_size)] * (1 if self.is_tied else 2)
        return [*ends, (self.hidden_size,)]

    def list_all_tensors(self) -> list[Shape]:
        """Return the shape of every parameter of the model."""
        dense = self.list_layer_tensors(with_experts=False) * (self.num_layers - self.num_expert_layers)
        with_experts = self.list_layer_tensors(with_experts=True) * self.num_expert_layers if self.num_experts else []
        return [*self.list_root_tensors(), *dense, *with_experts]

    @property
    def num_parameters(self) -> int:
        """Parameters of the model; a tied output layer counts once."""
        return count(self.list_all_tensors())

    @property
    def num_active_parameters(self) -> int:
        """Parameters that one token goes through."""
        if not self.num_experts:
            return self.num_parameters
        idle = count(self.list_expert_tensors()) * (self.num_experts - self.experts_per_token) // self.num_experts
        return self.num_parameters - idle * self.num_expert_layers


def count(shapes: list[Shape]) -> int:
    """Return the numbers that tensors of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes)


def read_shapes(config: Mapping[str, Any], origin: str) -> ModelShapes:
    """Read the shapes from a config.json.

    Args:
        config: The parsed file.
        origin: Its address, for messages.

    Raises:
        ModelError: If the architecture is another one, or a number is missing or not a positive integer.
    """
    model_type = config.get("model_type")
    if model_type not in ARCHITECTURES:
        raise ModelError(
            f"{origin} has the model_type {model_type!r}, whose memory cannot be planned",
            expected=f"one of {', '.join(ARCHITECTURES)}",
            remedy="try it on one GPU, or add its shapes to voc/models/shapes.py",
        )
    numbers = _Numbers(config)  # transformers 5 writes num_local_experts where the published files have num_experts
    hidden, heads = numbers.get("hidden_size"), numbers.get("num_attention_heads")
    has_experts = model_type == "qwen3_moe"
    layers = numbers.get("num_hidden_layers")
    shapes = ModelShapes(
        model_type=model_type,
        hidden_size=hidden,
        intermediate_size=numbers.get("intermediate_size"),
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=numbers.get("num_key_value_heads", heads),
        head_dim=numbers.get("head_dim", max(hidden // max(heads, 1), 1)),
        vocab_size=numbers.get("vocab_size"),
        is_tied=bool(config.get("tie_word_embeddings", False)),
        num_experts=numbers.get("num_experts", config.get("num_local_experts")) if has_experts else 0,
        experts_per_token=numbers.get("num_experts_per_tok") if has_experts else 0,
        expert_size=numbers.get("moe_intermediate_size") if has_experts else 0,
        num_expert_layers=_count_expert_layers(config, layers) if has_experts else 0,
        has_qkv_bias=model_type == "qwen2" or bool(config.get("attention_bias")),
        has_output_bias=model_type != "qwen2" and bool(config.get("attention_bias")),
        has_mlp_bias=model_type == "llama" and bool(config.get("mlp_bias")),
    )
    if numbers.problems:
        raise ModelError(f"{origin}: {'; '.join(numbers.problems)}", expected="the config.json of a whole model")
    return shapes


def parse_shapes(data: bytes, origin: str) -> ModelShapes:
    """Read the shapes from the bytes of a config.json.

    Raises:
        ModelError: If it is not a JSON object, or `read_shapes` refuses it.
    """
    try:
        config = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{origin} is not JSON: {error}", remedy="put the model there again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{origin} holds {type(config).__name__}", expected="a JSON object")
    return read_shapes(config, origin)


class _Numbers:
    """Reads positive integers and keeps what was wrong."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.problems: list[str] = []

    def get(self, name: str, default: int | None = None) -> int:
        value = self._config.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.problems.append(f"{name} is {value!r}")
            return 1
        return value


def _count_expert_layers(config: Mapping[str, Any], layers: int) -> int:
    step = config.get("decoder_sparse_step") or 1
    dense = set(config.get("mlp_only_layers") or ())
    return sum(1 for layer in range(layers) if layer not in dense and (layer + 1) % step == 0)
