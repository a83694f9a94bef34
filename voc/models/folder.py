"""Model folders: where they are on this machine, whether they can be used at all, and what their weights say about themselves.

A model is a folder in the Hugging Face layout: config.json, tokenizer files, safetensors. Of the weights only the headers are
read (names, dtypes, shapes, sizes): preflight runs where the safetensors package is not installed, and a header is eight bytes of
length and a JSON object.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voc.errors import IntegrityError, ModelError
from voc.store.base import Store
from voc.store.layout import model_key
from voc.store.manifest import (
    Manifest,
    commit_folder,
    describe_folder,
    digest_bytes,
    download_directory,
    read_manifest,
)
from voc.store.uri import open_uri

REQUIRED_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
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


def localise_model(uri: str) -> Path:
    """Return a local folder with the model: the folder itself, or a verified download kept under its digest.

    Raises:
        ModelError: If a remote folder has no manifest, so that its files cannot be verified.
    """
    store, key = open_uri(uri)
    path = store.local_path(key)
    if path is not None:
        return path
    manifest = read_manifest(store, key)
    if manifest is None:
        raise ModelError(
            f"the model {uri} has no manifest.json",
            expected="a finished export, or a model put there with `python -m voc put-model`",
            remedy="check model.base, or run the stage that exports the model to its end",
        )
    folder = cache_folder() / "models" / manifest.digest
    download_directory(store, key, folder)
    return folder


def read_model_file(uri: str, name: str) -> bytes | None:
    """Return one small file of a model folder without the weights beside it, or None if it is not there.

    Raises:
        IntegrityError: If the folder has a manifest and the file is not what it says.
    """
    store, key = open_uri(uri)
    if not store.exists(f"{key}/{name}"):
        return None
    data, manifest = store.read_bytes(f"{key}/{name}"), read_manifest(store, key)
    stated = next((entry.sha256 for entry in manifest.files if entry.path == name), None) if manifest else None
    if stated is not None and digest_bytes(data) != stated:
        raise IntegrityError(f"{uri}/{name} has SHA-256 {digest_bytes(data)}", expected=stated)
    return data


def cache_folder() -> Path:
    """Return the folder for things that can be made again (`NIGHTFORGE_CACHE`, else the user's cache)."""
    return Path(os.environ.get("NIGHTFORGE_CACHE") or Path.home() / ".cache" / "nightforge")


def digest_model(uri: str) -> str:
    """Return the digest of a model's files: from its manifest, else computed from the local folder."""
    store, key = open_uri(uri)
    manifest = read_manifest(store, key)
    if manifest is not None:
        return manifest.digest
    path = store.local_path(key)
    if path is None:
        raise IntegrityError(f"the model {uri} has no manifest.json", remedy="put it there with its manifest")
    return Manifest(describe_folder(path)).digest


def list_model_problems(uri: str) -> list[str]:
    """Look at a model folder without loading it and return everything that is wrong with it."""
    store, key = open_uri(uri)
    if next(iter(store.list_keys(key)), None) is None:
        return ["there is no such folder, or it is empty"]
    problems = [f"{name} is missing" for name in REQUIRED_FILES if not store.exists(f"{key}/{name}")]
    if store.exists(f"{key}/{INDEX_NAME}"):
        try:
            index = json.loads(store.read_bytes(f"{key}/{INDEX_NAME}"))
            shards = sorted(set(index["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return [*problems, f"{INDEX_NAME} is damaged: {error!r}"]
        problems += [f"the shard {name} is missing" for name in shards if not store.exists(f"{key}/{name}")]
    elif not store.exists(f"{key}/{SINGLE_NAME}"):
        problems.append(f"neither {SINGLE_NAME} nor {INDEX_NAME} is there{_tell_pickles(store, key)}")
    return problems


def _tell_pickles(store: Store, key: str) -> str:
    pickles = sorted(k.rpartition("/")[2] for k in store.list_keys(key) if Path(k).suffix in PICKLE_SUFFIXES)
    return f" ({', '.join(pickles[:3])} may be a pickle, which is never loaded)" if pickles else ""


def check_model_folder(uri: str) -> None:
    """Check that a model folder holds what training and serving load.

    Raises:
        ModelError: With everything that is missing.
    """
    problems = list_model_problems(uri)
    if problems:
        raise ModelError(
            f"the model folder {uri} cannot be used: {'; '.join(problems)}",
            expected=f"{', '.join(REQUIRED_FILES)} and safetensors weights",
            remedy="check model.base",
        )


def put_model(folder: Path, store: Store, name: str) -> Manifest:
    """Put a local model folder with its manifest into the store as `models/<name>`; the same content again is no work.

    Raises:
        ModelError: If the folder cannot be used, or the name holds another model already.
    """
    check_model_folder(str(folder))
    key = model_key(name)
    present = read_manifest(store, key)
    if present is None:
        return commit_folder(store, key, folder)
    digest = Manifest(describe_folder(folder)).digest
    if present.digest != digest:
        raise ModelError(
            f"{store.uri}/{key} holds another model (digest {present.digest[:12]}, this one {digest[:12]})",
            expected="a new name: runs refer to models by name, so one is never replaced",
            remedy="choose another --name",
        )
    return present


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
