from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from corpus.encode import IGNORE_INDEX
from training.model import compute_loss_sum, load_model, read_model
from training.packing import Document, build_batch
from training.process_group import join_ranks
from voc.config import OptimizerConfig, TrainingConfig
from voc.errors import ModelError

TRAINING = TrainingConfig(
    max_steps=1,
    global_batch_size=1,
    max_seq_len=64,
    param_dtype="float32",
    optimizer=OptimizerConfig(learning_rate=1e-3),
)


def make_documents(lengths: list[int], vocab_size: int = 300) -> list[Document]:
    draw = random.Random(3)
    documents = []
    for length in lengths:
        ids = np.array([draw.randrange(vocab_size) for _ in range(length)], dtype=np.int32)
        labels = np.where(np.arange(length) >= length // 3, ids, IGNORE_INDEX)
        documents.append(Document(ids, labels))
    return documents


def compute_alone(model: torch.nn.Module, documents: list[Document]) -> list[float]:
    return [compute_loss_sum(model, build_batch([[d]], len(d), pad_id=0)).item() for d in documents]


@pytest.fixture(scope="module")
def qwen3(tiny_base: Path) -> torch.nn.Module:
    return read_model(tiny_base)


@pytest.fixture(scope="module")
def qwen3_moe() -> torch.nn.Module:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        initializer_range=0.1,
        attn_implementation="sdpa",
    )
    return Qwen3MoeForCausalLM(config).eval()


@pytest.mark.parametrize("architecture", ["qwen3", "qwen3_moe"])
def test_a_packed_row_computes_what_its_documents_compute_alone(
    architecture: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(architecture)
    documents = make_documents([17, 9, 23, 2])
    with torch.no_grad():
        alone = compute_alone(model, documents)
        packed = compute_loss_sum(model, build_batch([documents], 64, pad_id=0)).item()
    assert packed == pytest.approx(sum(alone), rel=1e-5)


def test_rows_with_and_without_packing_mix_in_one_batch(qwen3: torch.nn.Module) -> None:
    documents = make_documents([17, 9, 40])
    with torch.no_grad():
        alone = compute_alone(qwen3, documents)
        mixed = compute_loss_sum(qwen3, build_batch([documents[:2], documents[2:], []], 48, pad_id=0)).item()
    assert mixed == pytest.approx(sum(alone), rel=1e-5)


def test_a_document_does_not_see_its_neighbour(qwen3: torch.nn.Module) -> None:
    """Fails when positions do not restart, so that the test above cannot pass by accident."""
    first, second = make_documents([17, 9])
    batch = build_batch([[first, second]], 26, pad_id=0)
    batch.position_ids.copy_(torch.arange(26))
    with torch.no_grad():
        assert compute_loss_sum(qwen3, batch).item() != pytest.approx(
            sum(compute_alone(qwen3, [first, second])), rel=1e-4
        )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_sharded_model_has_the_gradients_of_the_whole_one(tiny_base: Path, checkpointing: bool) -> None:
    batch = build_batch([make_documents([20, 30])], 64, pad_id=0)
    whole = read_model(tiny_base).train()
    compute_loss_sum(whole, batch).backward()
    with join_ranks(use_gpu=False) as ranks:
        training = TRAINING.model_copy(update={"activation_checkpointing": checkpointing})
        model = load_model(tiny_base, training, ranks)
        compute_loss_sum(model, batch).backward()
        gradients = {name: p.grad.full_tensor() for name, p in model.named_parameters()}
    assert gradients.keys() == dict(whole.named_parameters()).keys()
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)


def test_master_weights_stay_float32_under_bfloat16(tiny_base: Path) -> None:
    batch = build_batch([make_documents([20, 30])], 64, pad_id=0)
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(tiny_base, TRAINING.model_copy(update={"param_dtype": "bfloat16"}), ranks)
        loss = compute_loss_sum(model, batch)
        loss.backward()
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
    with torch.no_grad():
        exact = compute_loss_sum(read_model(tiny_base), batch).item()
    assert loss.item() == pytest.approx(exact, rel=0.02)
    assert loss.item() != exact


def test_broken_weights_are_a_named_error(tiny_base: Path, tmp_path: Path) -> None:
    for path in tiny_base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[: 200 if path.suffix == ".safetensors" else None])
    with pytest.raises(ModelError, match="cannot be loaded"):
        read_model(tmp_path)


def test_missing_tensors_are_an_error_and_not_random_numbers(tiny_base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors of the architecture: model\.norm\.weight"):
        read_model(folder)
