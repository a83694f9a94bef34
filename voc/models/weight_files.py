"""What safetensors files say about themselves: names, dtypes, shapes and sizes, from their headers; no weights are read.

Preflight runs where the safetensors package is not installed, and a header is eight bytes of length and a JSON object.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voc.errors import ModelError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
TRAINABLE_DTYPES = ("F32", "F16", "BF16")

TensorLayout = dict[str, tuple[str, tuple[int, ...]]]  # name -> (dtype as safetensors writes it, shape)

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4}
_BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}
_MAX_LISTED = 3


def list_weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a model's weights: those of the index, else the single one."""
    if not (folder / INDEX_NAME).is_file():
        return [folder / SINGLE_NAME]
    return [folder / name for name in sorted(set(_read_index(folder).values()))]


def read_tensor_layout(folder: Path) -> TensorLayout:
    """Return dtype and shape of every tensor in a model folder.

    Raises:
        ModelError: If a file is damaged or cut short.
    """
    layout: TensorLayout = {}
    for path in list_weight_files(folder):
        layout |= read_header(path)
    return layout


def read_header(path: Path) -> TensorLayout:
    """Return dtype and shape of every tensor in a safetensors file.

    Raises:
        ModelError: If it is no safetensors file, or its size is not what its header says.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > _MAX_HEADER_BYTES:
                raise ValueError(f"its header would have {length} bytes")
            entries: dict[str, Any] = json.loads(file.read(length))
        size_bytes = path.stat().st_size
        entries.pop("__metadata__", None)
        layout = {name: (str(entry["dtype"]), tuple(entry["shape"])) for name, entry in entries.items()}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        sizes = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path.name} is no safetensors file: {error}", remedy="put the file there again") from error
    expected = _LENGTH_BYTES + length + end
    if size_bytes != expected:
        raise ModelError(
            f"{path.name} has {size_bytes} bytes, its header lists tensors up to byte {expected}",
            expected="a whole file",
            remedy="put the file there again: an upload or a download was cut short",
        )
    for name, (dtype, shape) in layout.items():
        if sizes[name] * 8 != math.prod(shape) * _BITS.get(dtype, 0):
            raise ModelError(f"{path.name} gives {sizes[name]} bytes to {name}, a {dtype} tensor of shape {shape}")
    return layout


def check_weight_files(uri: str, folder: Path) -> TensorLayout:
    """Check that a model folder's weight files are whole and hold every tensor of the index.

    Raises:
        ModelError: With everything that is wrong.
    """
    problems: list[str] = []
    found: dict[str, TensorLayout] = {}
    for path in list_weight_files(folder):
        try:
            found[path.name] = read_header(path)
        except ModelError as error:
            problems.append(error.problem)
    index = _read_index(folder) if (folder / INDEX_NAME).is_file() else {}
    absent = sorted(name for name, file in index.items() if file in found and name not in found[file])
    if absent:
        shown = ", ".join(f"{name} (in {index[name]})" for name in absent[:_MAX_LISTED])
        problems.append(f"{INDEX_NAME} names {len(absent)} tensors that are not in their files: {shown}")
    if problems:
        raise ModelError(
            f"the weights of {uri} are damaged: {'; '.join(problems)}",
            expected="whole safetensors files with the tensors of the index",
            remedy="put the model there again",
        )
    return {name: entry for layout in found.values() for name, entry in layout.items()}


def check_trainable(uri: str, layout: TensorLayout, config: Mapping[str, Any]) -> None:
    """Check that weights can be trained and exported as they are: plain floats, no code of the model's own.

    Args:
        uri: Where the model is, for messages.
        layout: Its tensors; floats of several dtypes are fine, each keeps its own in the export.
        config: Its whole `config.json`.

    Raises:
        ModelError: If weights are quantised, or the folder wants code to be run.
    """
    quantisation = config.get("quantization_config") or config.get("compression_config")
    if quantisation:
        method = (
            quantisation.get("quant_method", "an unnamed method") if isinstance(quantisation, dict) else quantisation
        )
        raise ModelError(
            f"the model {uri} is quantised ({method}, quantization_config of its config.json)",
            expected=f"weights in {', '.join(TRAINABLE_DTYPES)}",
            remedy="train from the unquantised weights",
        )
    odd = sorted(name for name, (dtype, _) in layout.items() if dtype not in TRAINABLE_DTYPES)
    if odd:
        dtypes = sorted({layout[name][0] for name in odd})
        raise ModelError(
            f"the model {uri} stores {len(odd)} of {len(layout)} tensors as {', '.join(dtypes)}: "
            f"{', '.join(odd[:_MAX_LISTED])}",
            expected=f"weights in {', '.join(TRAINABLE_DTYPES)}",
            remedy="train from the unquantised weights",
        )
    if config.get("auto_map"):
        raise ModelError(
            f"config.json of {uri} names code of its own (auto_map)",
            expected="an architecture that transformers has itself: code of a model folder is never run",
            remedy="take auto_map out if transformers knows the model_type, else choose another model",
        )


def _read_index(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))["weight_map"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{INDEX_NAME} of {folder} is damaged: {error!r}", remedy="put the model there again"
        ) from error
