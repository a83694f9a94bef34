from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, Qwen3MoeConfig, Qwen3MoeForCausalLM

from corpus.encoding.encode import IGNORE_INDEX
from training.engine.attention import PACKED
from training.engine.batches import Document, build_batch
from training.engine.model import attach_loss, compute_loss_sum, load_model, read_model
from training.engine.process_group import join_ranks
from voc.config.training import OptimizerConfig, TrainingConfig
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
    return [compute_loss_sum(model, build_batch([d], pad_id=0)).item() for d in documents]


@pytest.fixture(scope="module")
def qwen3(tiny_base: Path) -> PreTrainedModel:
    return read_model(tiny_base)


@pytest.fixture(scope="module")
def qwen3_moe() -> PreTrainedModel:
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
        attn_implementation=PACKED,
    )
    model = Qwen3MoeForCausalLM(config).eval()
    attach_loss(model, "plain", 1)
    return model


@pytest.mark.parametrize("architecture", ["qwen3", "qwen3_moe"])
def test_a_packed_row_computes_what_its_documents_compute_alone(
    architecture: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(architecture)
    documents = make_documents([17, 9, 23, 2])
    with torch.no_grad():
        alone = compute_alone(model, documents)
        packed = compute_loss_sum(model, build_batch(documents, pad_id=0, padded_length=64)).item()
    assert packed == pytest.approx(sum(alone), rel=1e-5)


def test_a_document_does_not_see_its_neighbour(qwen3: PreTrainedModel) -> None:
    """Fails when there is no boundary, so that the test above cannot pass by accident."""
    first, second = make_documents([17, 9])
    batch = build_batch([first, second], pad_id=0)
    joined = replace(batch, boundaries=torch.tensor([0, 26], dtype=torch.int32), longest=26)
    with torch.no_grad():
        alone = sum(compute_alone(qwen3, [first, second]))
        assert compute_loss_sum(qwen3, joined).item() != pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("padded_length", [None, 64])
@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("kernel", ["chunked", "plain"])
def test_the_trained_model_has_the_gradients_of_the_whole_one(
    tiny_base: Path, checkpointing: str, kernel: str, padded_length: int | None
) -> None:
    batch = build_batch(make_documents([20, 30]), pad_id=0, padded_length=padded_length)
    whole = read_model(tiny_base).train()
    compute_loss_sum(whole, batch).backward()
    update = {"activation_checkpointing": checkpointing, "loss_kernel": kernel, "loss_chunk_tokens": 7}
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(tiny_base, TRAINING.model_copy(update=update), ranks)
        compute_loss_sum(model, batch).backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
    assert gradients.keys() == dict(whole.named_parameters()).keys()
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, msg=name)


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_recomputation_changes_no_gradient_and_keeps_less(tiny_base: Path, checkpointing: str) -> None:
    batch = build_batch(make_documents([20, 30]), pad_id=0)
    sizes = {}
    for mode in ("none", checkpointing):
        with join_ranks(use_gpu=False) as ranks:
            model = load_model(tiny_base, TRAINING.model_copy(update={"activation_checkpointing": mode}), ranks)
            kept: list[int] = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t, k=kept: (k.append(t.nbytes), t)[1], lambda t: t):
                compute_loss_sum(model, batch)
        sizes[mode] = sum(kept)
    assert sizes[checkpointing] <= sizes["none"]


def test_a_compiled_layer_computes_what_it_did(tiny_base: Path) -> None:
    batch = build_batch(make_documents([20, 30]), pad_id=0, padded_length=64, longest=64)
    found = []
    for how in ("none", "layers"):
        with join_ranks(use_gpu=False) as ranks:
            model = load_model(tiny_base, TRAINING.model_copy(update={"compile": how}), ranks)
            loss = compute_loss_sum(model, batch)
            loss.backward()
            found.append((loss.detach(), *(p.grad for p in model.parameters())))
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_master_weights_stay_float32_under_bfloat16(tiny_base: Path) -> None:
    batch = build_batch(make_documents([20, 30]), pad_id=0)
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
