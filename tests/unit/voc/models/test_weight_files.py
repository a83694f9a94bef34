from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.voc.conftest import write_safetensors
from voc.errors import ModelError
from voc.models.folder import check_trainable, check_weight_files, read_header, read_tensor_layout


def write_shards(folder: Path, **weight_map: str) -> None:
    write_safetensors(folder / "one.safetensors", {"a": ("F32", (2, 3))})
    write_safetensors(folder / "two.safetensors", {"b": ("BF16", (4,)), "c": ("F32", ())})
    named = {"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors", **weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))


def test_the_layout_is_read_over_all_files_of_the_index(tmp_path: Path) -> None:
    write_shards(tmp_path)
    write_safetensors(tmp_path / "consolidated.safetensors", {"other": ("F32", (1,))})
    layout = {"a": ("F32", (2, 3)), "b": ("BF16", (4,)), "c": ("F32", ())}
    assert read_tensor_layout(tmp_path) == check_weight_files("m", tmp_path) == layout


def test_real_files_of_the_library_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save_file = pytest.importorskip("safetensors.torch").save_file
    tensors = {
        "x": torch.zeros(3, 2, dtype=torch.bfloat16),
        "y": torch.zeros((), dtype=torch.int64),
        "z": torch.zeros(0),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    expected = {"x": ("BF16", (3, 2)), "y": ("I64", ()), "z": ("F32", (0,))}
    assert check_weight_files("m", tmp_path) == expected


def test_every_damage_is_named_at_once(tmp_path: Path) -> None:
    write_shards(tmp_path, d="one.safetensors", e="one.safetensors")
    two = tmp_path / "two.safetensors"
    two.write_bytes(two.read_bytes()[:-3])
    size = two.stat().st_size
    with pytest.raises(ModelError) as caught:
        check_weight_files("the-model", tmp_path)
    message = str(caught.value)
    assert f"two.safetensors has {size} bytes, its header lists tensors up to byte {size + 3}" in message
    assert "names 2 tensors that are not in their files: d (in one.safetensors), e (in one.safetensors)" in message


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff" * 8, (5).to_bytes(8, "little") + b"[1,2]", b"weights" * 9])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match=r"x\.safetensors"):
        read_header(tmp_path / "x.safetensors")


def test_a_header_whose_sizes_do_not_fit_its_shapes_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    with pytest.raises(ModelError, match=r"gives 4 bytes to a, a F32 tensor of shape \(2,\)"):
        read_header(tmp_path / "x.safetensors")


def test_floats_of_several_dtypes_can_be_trained() -> None:
    check_trainable("m", {"a": ("F32", (1,)), "b": ("BF16", (1,)), "c": ("F16", (1,))}, {})


@pytest.mark.parametrize(
    ("dtype", "config", "message"),
    [
        ("I8", {}, "stores 1 of 2 tensors as I8: b"),
        ("BF16", {"quantization_config": {"quant_method": "gptq"}}, "is quantised .gptq"),
        ("BF16", {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}, "names code of its own"),
    ],
)
def test_what_cannot_be_trained_as_it_is_is_refused(dtype: str, config: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_trainable("m", {"a": ("BF16", (1,)), "b": (dtype, (1,))}, config)
