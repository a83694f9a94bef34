"""Model folders: where they are on this machine, and whether they can be used at all.

A model is a folder in the Hugging Face layout: config.json, tokenizer files, safetensors.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from voc.errors import IntegrityError, ModelError
from voc.models.weight_files import INDEX_NAME, PICKLE_SUFFIXES, SINGLE_NAME
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
