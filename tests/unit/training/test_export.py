from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from corpus.encode import IGNORE_INDEX
from tests.tiny_model import make_tiny_model
from training.batches import Batch, Document, build_batch
from training.export import read_tensor_layout, verify_model, write_model
from training.job import TrainingJob
from training.loop import train
from training.model import compute_logits, read_model
from voc.errors import IntegrityError, ModelError

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def probe() -> Batch:
    ids = torch.arange(5, 25).numpy()
    labels = ids.copy()
    labels[:4] = IGNORE_INDEX
    return build_batch([Document(ids, labels)], pad_id=0)


def export(base: Path, folder: Path, probe: Batch) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Change a base a little, write it, and return its state and its logits."""
    model = read_model(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
        logits = compute_logits(model, probe)
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    write_model(folder, base, model, whole)
    return whole, logits


def test_an_export_differs_from_its_base_in_weights_only(make_job: MakeJob, tiny_base: Path) -> None:
    job = make_job()
    train(job)
    folder = job.run.store.local_path(job.run.layout.export("mixed"))
    names = {path.name for path in tiny_base.iterdir()}
    assert {path.name for path in folder.iterdir()} == names | {"manifest.json"}
    same = {name for name in names if (folder / name).read_bytes() == (tiny_base / name).read_bytes()}
    assert same == names - {"model.safetensors"}
    assert read_tensor_layout(folder) == read_tensor_layout(tiny_base)


def test_the_verification_card_tells_what_was_compared(make_job: MakeJob) -> None:
    job = make_job()
    train(job)
    path = job.run.store.local_path(f"{job.run.layout.training('mixed')}/verification.json")
    card = json.loads(path.read_text())
    assert card["num_tensors"] == 24
    assert card["min_cosine"] >= 0.999
    assert card["num_positions"] > 20
    assert "generation_config.json" in card["copied_files"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_the_bases_dtype_and_tying_are_kept(tmp_path: Path, probe: Batch, dtype: str, is_tied: bool) -> None:
    base = make_tiny_model(tmp_path / "base", tie_word_embeddings=is_tied, dtype=dtype)
    whole, logits = export(base, tmp_path / "out", probe)
    verification = verify_model(tmp_path / "out", base, whole, (probe, logits), ())
    assert read_tensor_layout(tmp_path / "out") == read_tensor_layout(base)
    assert ("lm_head.weight" in read_tensor_layout(base)) is not is_tied
    assert verification.num_tensors == len(read_tensor_layout(base))


def test_experts_are_written_under_the_names_of_the_base(tmp_path: Path, probe: Batch) -> None:
    base = make_tiny_model(tmp_path / "base")
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=391,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
    )
    Qwen3MoeForCausalLM(config).to(torch.bfloat16).save_pretrained(base)
    assert "model.layers.0.mlp.experts.3.gate_proj.weight" in read_tensor_layout(base)
    whole, logits = export(base, tmp_path / "out", probe)
    verify_model(tmp_path / "out", base, whole, (probe, logits), ())
    assert read_tensor_layout(tmp_path / "out") == read_tensor_layout(base)


def change_one_number(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] += 1e-6


def drop_one_tensor(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.layers.1.self_attn.q_norm.weight"]


def change_one_dtype(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].half()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_one_number, r"1 of 25 tensors differ after a reload: model\.layers\.1\.mlp\.up_proj"),
        (drop_one_tensor, r"lack 1 tensors .*q_norm"),
        (change_one_dtype, r"model\.norm\.weight is \('F16'"),
    ],
)
def test_an_export_that_is_not_the_trained_model_is_refused(
    tiny_base: Path, tmp_path: Path, probe: Batch, damage: Callable[[dict], None], message: str
) -> None:
    whole, logits = export(tiny_base, tmp_path / "out", probe)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises((IntegrityError, ModelError), match=message):
        verify_model(tmp_path / "out", tiny_base, whole, (probe, logits), ())


def test_a_model_that_answers_differently_is_refused(tiny_base: Path, tmp_path: Path, probe: Batch) -> None:
    whole, logits = export(tiny_base, tmp_path / "out", probe)
    with pytest.raises(IntegrityError, match="answers differently"):
        verify_model(tmp_path / "out", tiny_base, whole, (probe, logits.flip(-1)), ())


def test_quantised_weights_are_no_base_to_train_from(tiny_base: Path, tmp_path: Path, probe: Batch) -> None:
    base = make_tiny_model(tmp_path / "base")
    tensors = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(base / "model.safetensors").items()}
    model, whole = read_model(base), dict(read_model(base).state_dict())
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="as F8_E4M3"):
        write_model(tmp_path / "out", base, model, whole)
