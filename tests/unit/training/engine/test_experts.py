from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GptOssConfig,
    MixtralConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
)

from tests.tiny_model import make_tiny_model
from training.engine.batches import Batch, Document, build_batch
from training.engine.experts import choose_experts_kernel, list_expert_layers
from training.engine.model import compute_loss_sum, load_model, read_model
from training.engine.process_group import join_ranks
from voc.config.training import ExpertsConfig, OptimizerConfig, TrainingConfig
from voc.errors import ModelError

SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts_per_tok": 2,
}
TRAINING = TrainingConfig(
    max_steps=1,
    global_batch_size=1,
    max_seq_len=64,
    param_dtype="float32",
    optimizer=OptimizerConfig(learning_rate=1e-3),
)


@pytest.fixture(scope="module")
def sparse_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "sparse", num_experts=8)


@pytest.fixture(scope="module")
def batch() -> Batch:
    ids = np.random.default_rng(3).integers(0, 300, 50, dtype=np.int32)
    return build_batch([Document(ids[:20], ids[:20]), Document(ids[20:], ids[20:])], pad_id=0, padded_length=64)


def train_once(base: Path, batch: Batch, implementation: str, **changes: object) -> tuple[torch.Tensor, dict]:
    changes |= {"experts": ExpertsConfig(implementation=implementation)}
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(base, TRAINING.model_copy(update=changes), ranks)
        loss = compute_loss_sum(model, batch)
        loss.backward()
        return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 1e-5),
        ({"activation_checkpointing": "full"}, 1e-5),
        ({"activation_checkpointing": "selective"}, 1e-5),
        # One rounding to 8 bits in another order, relative to the norm of a whole gradient.
        ({"param_dtype": "bfloat16"}, 0.02),
    ],
)
def test_the_grouped_kernel_has_the_loss_and_the_gradients_of_the_loop(
    sparse_base: Path, batch: Batch, changes: dict, tolerance: float
) -> None:
    loss, gradients = train_once(sparse_base, batch, "grouped_mm", **changes)
    loop_loss, loop_gradients = train_once(sparse_base, batch, "loop", **changes)
    assert float(loss) == pytest.approx(float(loop_loss), rel=tolerance)
    assert gradients.keys() == loop_gradients.keys()
    for name, gradient in loop_gradients.items():
        assert distance(gradients[name], gradient) < tolerance, name


@pytest.mark.parametrize(("implementation", "is_grouped"), [("grouped_mm", True), ("loop", False)])
def test_the_setting_decides_which_kernel_runs(
    sparse_base: Path, batch: Batch, implementation: str, is_grouped: bool
) -> None:
    with join_ranks(use_gpu=False) as ranks:
        experts = ExpertsConfig(implementation=implementation)
        model = load_model(sparse_base, TRAINING.model_copy(update={"experts": experts}), ranks)
        with torch.profiler.profile() as profile, torch.no_grad():
            compute_loss_sum(model, batch)
    assert any("grouped_mm" in event.key for event in profile.key_averages()) is is_grouped


@pytest.mark.parametrize(
    ("config", "path"),
    [
        (Qwen3MoeConfig(**SMALL, num_experts=4, moe_intermediate_size=16), "mlp.experts"),
        (MixtralConfig(**SMALL, num_local_experts=4), "mlp.experts"),
        (GptOssConfig(**SMALL, num_local_experts=4), "mlp.experts"),
    ],
)
def test_expert_layers_and_their_routers_are_found_in_several_architectures(config: object, path: str) -> None:
    with torch.device("meta"):
        layers = list_expert_layers(AutoModelForCausalLM.from_config(config))
    assert [layer.name for layer in layers] == [f"model.layers.{i}.{path}" for i in range(2)]
    assert {layer.num_experts for layer in layers} == {4}
    assert all(layer.router is not None and layer.has_interface for layer in layers)


def test_a_dense_model_has_no_expert_layers_and_takes_either_setting(tiny_base: Path) -> None:
    model: PreTrainedModel = read_model(tiny_base)
    assert list_expert_layers(model) == []
    choose_experts_kernel(model, "grouped_mm")
    choose_experts_kernel(model, "loop")


def test_experts_that_know_one_way_only_are_not_said_to_run_the_grouped_kernel(sparse_base: Path) -> None:
    model = read_model(sparse_base)
    for layer in list_expert_layers(model):
        del layer.experts.has_gate
    choose_experts_kernel(model, "loop")
    with pytest.raises(ModelError, match=r"implementation is grouped_mm.*way of its own.*Expected: loop"):
        choose_experts_kernel(model, "grouped_mm")
