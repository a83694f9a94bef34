from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from corpus.encoding.base_model import load_tokenizer
from corpus.encoding.encode import IGNORE_INDEX
from tests.tiny_model import make_tiny_model, make_tiny_moe
from training.engine.batches import Batch, Document, build_batch
from training.engine.model import compute_logits, read_model
from training.engine.process_group import join_ranks
from training.export.export import WrittenFolder, write_model
from training.export.verification import Trained, verify_model
from training.export.weights import choose_reload_dtype
from training.job import TrainingJob
from training.loop.train import train
from voc.errors import IntegrityError, ModelError
from voc.models.folder import list_weight_files, read_tensor_layout
from voc.store.manifest import read_manifest

MakeJob = Callable[..., TrainingJob]


@pytest.fixture
def probe() -> Batch:
    ids = torch.arange(5, 25).numpy()
    labels = ids.copy()
    labels[:4] = IGNORE_INDEX
    return build_batch([Document(ids, labels)], pad_id=0)


def export(base: Path, folder: Path, probe: Batch, max_file_bytes: int = 1 << 30) -> tuple[Trained, tuple[str, ...]]:
    """Change a base a little, write it, and return what it says about itself and the copied files."""
    model = read_model(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
        logits = compute_logits(model, probe)
    reload_dtype = choose_reload_dtype(read_tensor_layout(base), torch.float32)
    written = write(folder, base, model, max_file_bytes, reload_dtype)
    is_exact = {dtype for dtype, _ in read_tensor_layout(base).values()} == {"F32"}
    return Trained(probe, logits, written.digests, load_tokenizer(base), reload_dtype, is_exact), written.copied


def write(
    folder: Path,
    base: Path,
    model: PreTrainedModel,
    max_file_bytes: int = 1 << 30,
    reload_dtype: torch.dtype = torch.float32,
) -> WrittenFolder:
    with join_ranks(use_gpu=False) as ranks:
        return write_model(folder, base, model, ranks, max_file_bytes=max_file_bytes, reload_dtype=reload_dtype)


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in list_weight_files(folder) for name, tensor in load_file(path).items()}


def read_card(job: TrainingJob) -> dict[str, Any]:
    path = job.run.store.local_path(f"{job.run.layout.training(job.arm)}/verification.yaml")
    return yaml.safe_load(path.read_text())


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
    card = read_card(job)
    manifest = read_manifest(job.run.store, job.run.layout.export("mixed"))
    assert card["model_digest"] == manifest.digest
    assert card["weights_digest"] == manifest.facts["weights_digest"]
    assert card["round_trip"]["tensors"] == 24
    assert card["round_trip"]["tensors_equal"] == 25
    assert card["distributions"]["min_cosine"] >= 0.999
    assert card["distributions"]["num_positions"] > 20
    assert card["distributions"]["top1_agreement_ratio"] > 0.9
    assert card["greedy"] == {"prompts": 4, "new_tokens": 32, "identical": True}
    assert "generation_config.json" in card["tokenizer"]["copied_files"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_the_bases_dtype_and_tying_are_kept(tmp_path: Path, probe: Batch, dtype: str, is_tied: bool) -> None:
    base = make_tiny_model(tmp_path / "base", tie_word_embeddings=is_tied, dtype=dtype)
    trained, copied = export(base, tmp_path / "out", probe)
    verified = verify_model(tmp_path / "out", base, trained, copied)
    assert read_tensor_layout(tmp_path / "out") == read_tensor_layout(base)
    assert ("lm_head.weight" in read_tensor_layout(base)) is not is_tied
    assert verified["round_trip"]["tensors"] == len(read_tensor_layout(base))
    rule = {"float32": "min_cosine >= 0.999", "bfloat16": "mean_cosine >= 0.999"}
    assert verified["distributions"]["required"] == rule[dtype]


@pytest.mark.parametrize(
    ("stored", "computed", "expected"),
    [
        ({"BF16"}, torch.bfloat16, torch.bfloat16),
        ({"BF16"}, torch.float32, torch.float32),
        ({"F32"}, torch.bfloat16, torch.float32),
        ({"BF16", "F32"}, torch.bfloat16, torch.float32),
        ({"F16"}, torch.bfloat16, torch.float32),
    ],
)
def test_an_export_is_read_without_loss_and_as_finely_as_it_was_trained(
    stored: set[str], computed: torch.dtype, expected: torch.dtype
) -> None:
    layout = {dtype: (dtype, (1,)) for dtype in stored}
    assert choose_reload_dtype(layout, computed) == expected


def test_every_tensor_keeps_its_own_dtype_where_the_base_mixes_them(tmp_path: Path, probe: Batch) -> None:
    base = make_tiny_model(tmp_path / "base", dtype="bfloat16")
    tensors = load_file(base / "model.safetensors")
    tensors = {name: t.float() if "norm" in name else t for name, t in tensors.items()}
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    trained, copied = export(base, tmp_path / "out", probe)
    assert verify_model(tmp_path / "out", base, trained, copied)["round_trip"]["dtypes"] == {"F32": 9, "BF16": 15}
    assert read_tensor_layout(tmp_path / "out") == read_tensor_layout(base)


def test_experts_are_written_under_the_names_of_the_base(tmp_path: Path, probe: Batch) -> None:
    base = make_tiny_moe(tmp_path / "base")
    assert "model.layers.0.mlp.experts.3.gate_proj.weight" in read_tensor_layout(base)
    trained, copied = export(base, tmp_path / "out", probe)
    assert "model.layers.0.mlp.experts.gate_up_proj" in trained.digests
    verify_model(tmp_path / "out", base, trained, copied)
    assert read_tensor_layout(tmp_path / "out") == read_tensor_layout(base)


@pytest.mark.parametrize("is_moe", [False, True])
def test_the_files_hold_what_the_library_would_write(tmp_path: Path, probe: Batch, is_moe: bool) -> None:
    """Layer by layer and file by file, against transformers' own way, which needs the whole model in memory at once."""
    base = make_tiny_moe(tmp_path / "base") if is_moe else make_tiny_model(tmp_path / "base", dtype="bfloat16")
    export(base, tmp_path / "out", probe, max_file_bytes=20_000)
    model = read_model(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "theirs")
    ours, theirs = read_tensors(tmp_path / "out"), read_tensors(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_large_model_is_cut_into_files_that_load_again(tmp_path: Path, probe: Batch) -> None:
    base = make_tiny_moe(tmp_path / "base")
    trained, copied = export(base, tmp_path / "out", probe, max_file_bytes=20_000)
    files = list_weight_files(tmp_path / "out")
    assert len(files) > 4
    assert all(path.stat().st_size < 26_000 or len(load_file(path)) == 1 for path in files)
    assert read_tensor_layout(tmp_path / "out") == read_tensor_layout(base)
    verify_model(tmp_path / "out", base, trained, copied)


def test_what_could_run_code_stays_behind(tmp_path: Path, probe: Batch) -> None:
    base = make_tiny_model(tmp_path / "base")
    bomb = pickle.dumps((exec, ("raise SystemExit('a pickle was loaded')",)))
    for name in ("pytorch_model.bin", "optimizer.pt", "modeling_qwen3.py", "training_args.pkl"):
        (base / name).write_bytes(bomb)
    (base / "README.md").write_text("a model")
    model = read_model(base)
    written = write(tmp_path / "out", base, model)
    assert written.left_out == ("modeling_qwen3.py", "optimizer.pt", "pytorch_model.bin", "training_args.pkl")
    suffixes = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert suffixes == {".json", ".jinja", ".safetensors"}


def change_one_number(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] += 1e-6


def drop_one_tensor(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.layers.1.self_attn.q_norm.weight"]


def change_one_dtype(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].half()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_one_number, r"round trip.*1 of 25 tensors differ after a reload: model\.layers\.1\.mlp\.up_proj"),
        (drop_one_tensor, r"reload.*lack 1 tensors .*q_norm"),
        (change_one_dtype, r"layout.*model\.norm\.weight is \('F16'"),
    ],
)
def test_an_export_that_is_not_the_trained_model_is_refused(
    tiny_base: Path, tmp_path: Path, probe: Batch, damage: Callable[[dict], None], message: str
) -> None:
    trained, copied = export(tiny_base, tmp_path / "out", probe)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "out" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntegrityError, match=message):
        verify_model(tmp_path / "out", tiny_base, trained, copied)


def test_a_model_that_answers_differently_is_refused(tiny_base: Path, tmp_path: Path, probe: Batch) -> None:
    trained, copied = export(tiny_base, tmp_path / "out", probe)
    with pytest.raises(IntegrityError, match="answers differently"):
        verify_model(tmp_path / "out", tiny_base, replace(trained, logits=trained.logits.flip(-1)), copied)


def test_another_tokenizer_than_the_one_that_training_used_is_refused(
    tiny_base: Path, tmp_path: Path, probe: Batch
) -> None:
    trained, copied = export(tiny_base, tmp_path / "out", probe)
    other = load_tokenizer(make_tiny_model(tmp_path / "other", ["other words", "and more"], vocab_size=380))
    with pytest.raises(IntegrityError, match=r"tokenizer.*other than what training used: the tokenizer"):
        verify_model(tmp_path / "out", tiny_base, replace(trained, tokenizer=other), copied)
    (tmp_path / "out" / "generation_config.json").write_text("{}")
    with pytest.raises(IntegrityError, match="other than what training used: generation_config"):
        verify_model(tmp_path / "out", tiny_base, trained, copied)


def test_two_greedy_runs_that_differ_are_refused(
    tiny_base: Path, tmp_path: Path, probe: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, copied = export(tiny_base, tmp_path / "out", probe)
    answers = iter([[[1, 2]], [[1, 3]]])
    monkeypatch.setattr("training.export.verification._continue", lambda *_: next(answers))
    with pytest.raises(IntegrityError, match="two greedy runs differ for 1 of 1 prompts"):
        verify_model(tmp_path / "out", tiny_base, trained, copied)


def test_weights_that_are_not_finite_are_never_written(tmp_path: Path, probe: Batch) -> None:
    base = make_tiny_model(tmp_path / "base", dtype="float16")
    model = read_model(base)
    with torch.no_grad():
        model.model.norm.weight.fill_(70_000.0)  # beyond float16
    with pytest.raises(IntegrityError, match=r"model\.norm\.weight holds numbers"):
        write(tmp_path / "out", base, model)


def test_quantised_weights_are_no_base_to_train_from(tiny_base: Path, tmp_path: Path, probe: Batch) -> None:
    base = make_tiny_model(tmp_path / "base")
    tensors = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in load_file(base / "model.safetensors").items()}
    model = read_model(base)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="as F8_E4M3"):
        write(tmp_path / "out", base, model)
