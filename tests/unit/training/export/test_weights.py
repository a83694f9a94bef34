from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file

from tests.tiny_model import make_tiny_moe
from training.engine.batches import Document, build_batch
from training.engine.model import compute_logits, load_model, read_model
from training.engine.process_group import join_ranks
from training.export.weights import group_by_layer, plan_files, write_weights
from voc.config.training import OptimizerConfig, TrainingConfig
from voc.errors import ModelError
from voc.models.folder import list_weight_files, read_tensor_layout

TRAINING = TrainingConfig(
    max_steps=1,
    global_batch_size=2,
    num_workers=2,
    max_seq_len=64,
    param_dtype="bfloat16",
    optimizer=OptimizerConfig(learning_rate=1e-3),
)


def write_on_rank(rank: int, folder: str, base: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    layout = read_tensor_layout(Path(base))
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(Path(base), TRAINING, ranks)
        with torch.no_grad():  # leaves the weights whole on the CPU, as the export's probe does
            compute_logits(model, build_batch([Document(np.arange(9), np.arange(9))], pad_id=0))
        (Path(folder) / str(rank)).mkdir()
        out = Path(folder) / str(rank)
        digests = write_weights(out, model, layout, ranks, max_file_bytes=20_000, reload_dtype=torch.float32)
    assert bool(digests) is (rank == 0)
    dist.destroy_process_group()


def test_two_ranks_write_the_experts_that_one_has(tmp_path: Path) -> None:
    base = make_tiny_moe(tmp_path / "base")
    mp.spawn(write_on_rank, (str(tmp_path), str(base)), nprocs=2)
    assert not list((tmp_path / "1").iterdir())
    files = list_weight_files(tmp_path / "0")
    written = {name: tensor for path in files for name, tensor in load_file(path).items()}
    expected = load_file(base / "model.safetensors")
    assert written.keys() == expected.keys()
    total_bytes = sum(tensor.nbytes for tensor in written.values())
    assert len(files) <= total_bytes / 10_000
    index = json.loads((tmp_path / "0" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == total_bytes
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


def test_names_of_one_layer_are_one_group() -> None:
    names = [
        "model.embed_tokens.weight",
        "model.layers.0.a",
        "model.layers.10.a",
        "model.layers.0.b.3.c",
        "lm_head.weight",
    ]
    assert group_by_layer(names) == [[names[0]], [names[1], names[3]], [names[2]], [names[4]]]


def test_a_mapping_that_joins_layers_is_refused_before_anything_is_gathered(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read_model(tiny_base)

    def join(_: object, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"all": torch.empty(sum(tensor.numel() for tensor in tensors.values()), device="meta")}

    monkeypatch.setattr("training.export.weights.revert_weight_conversion", join)
    with pytest.raises(ModelError, match="are joined over several layers"):
        plan_files(model, model.state_dict(), {"all": ("F32", (1,))}, 1 << 30)
