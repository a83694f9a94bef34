from __future__ import annotations

import json
from typing import Any

import pytest

from voc.config.file import list_presets, read_preset
from voc.errors import ModelError
from voc.models.shapes import parse_shapes, read_shapes

TINY = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    "qwen3": {**TINY, "model_type": "qwen3"},
    "qwen3 tied with biases": {
        **TINY,
        "model_type": "qwen3",
        "tie_word_embeddings": True,
        "attention_bias": True,
    },
    "qwen3_moe": {**TINY, **EXPERTS, "model_type": "qwen3_moe"},
    "qwen3_moe with dense layers": {**TINY, **EXPERTS, "model_type": "qwen3_moe", "mlp_only_layers": [1]},
    "qwen3_moe every second layer": {**TINY, **EXPERTS, "model_type": "qwen3_moe", "decoder_sparse_step": 2},
    "qwen2": {**TINY, "model_type": "qwen2", "head_dim": None},
    "llama": {**TINY, "model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mistral": {**TINY, "model_type": "mistral"},
}


def build_on_meta(numbers: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    rest = {key: value for key, value in numbers.items() if key != "model_type" and value is not None}
    config = AutoConfig.for_model(numbers["model_type"], **rest)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_tensors_are_those_of_the_model_that_transformers_builds(variant: str) -> None:
    model = build_on_meta(VARIANTS[variant])
    shapes = read_shapes(VARIANTS[variant], "config.json")
    assert sorted(shapes.list_all_tensors()) == sorted(tuple(p.shape) for p in model.parameters())
    written = read_shapes(model.config.to_dict(), "written by transformers")
    assert written == shapes


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_has_the_tensors_of_the_model_that_transformers_builds(name: str) -> None:
    numbers = read_preset(name).architecture
    shapes = read_shapes(numbers, name)
    assert sorted(shapes.list_all_tensors()) == sorted(tuple(p.shape) for p in build_on_meta(numbers).parameters())


# Billions of parameters, all and without embeddings, as the model cards on the Hugging Face hub state them.
@pytest.mark.parametrize(
    ("name", "all_b", "inner_b", "active_b"),
    [
        ("qwen3-0.6b", 0.6, 0.44, None),
        ("qwen3-1.7b", 1.7, 1.4, None),
        ("qwen3-4b", 4.0, 3.6, None),
        ("qwen3-8b", 8.2, 6.95, None),
        ("qwen3-30b-a3b", 30.5, 29.9, 3.3),
    ],
)
def test_presets_have_the_parameters_that_the_model_cards_state(
    name: str, all_b: float, inner_b: float, active_b: float | None
) -> None:
    shapes = read_shapes(read_preset(name).architecture, name)
    embeddings = shapes.vocab_size * shapes.hidden_size * (1 if shapes.is_tied else 2)
    assert shapes.num_parameters / 1e9 == pytest.approx(all_b, rel=0.02)
    assert (shapes.num_parameters - embeddings) / 1e9 == pytest.approx(inner_b, rel=0.02)
    if active_b is not None:
        assert shapes.num_active_parameters / 1e9 == pytest.approx(active_b, rel=0.02)


def test_the_bf16_weights_of_30b_are_the_published_61_gigabytes() -> None:
    shapes = read_shapes(read_preset("qwen3-30b-a3b").architecture, "qwen3-30b-a3b")
    assert 2 * shapes.num_parameters / 1e9 == pytest.approx(61.06, abs=0.01)


def test_another_architecture_is_named_and_not_guessed() -> None:
    with pytest.raises(ModelError, match=r"'gpt2', whose memory cannot be planned.*qwen3_moe"):
        read_shapes({"model_type": "gpt2"}, "config.json")


def test_all_missing_and_odd_numbers_are_named_at_once() -> None:
    numbers = {**VARIANTS["qwen3"], "hidden_size": "32", "vocab_size": None, "num_hidden_layers": 0}
    with pytest.raises(ModelError, match=r"hidden_size is '32'; num_hidden_layers is 0; vocab_size is None"):
        read_shapes(numbers, "config.json")


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "holds list")])
def test_a_damaged_file_is_named(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"base/config.json.*{message}"):
        parse_shapes(text.encode(), "base/config.json")
    assert parse_shapes(json.dumps(VARIANTS["qwen3"]).encode(), "x") == read_shapes(VARIANTS["qwen3"], "x")
