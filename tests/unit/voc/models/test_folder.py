from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.voc.conftest import write_model
from voc.errors import ConfigError, ModelError
from voc.models.folder import check_model_folder, digest_model, list_model_problems, localise_model, put_model
from voc.store.base import Store
from voc.store.manifest import verify_directory


def test_a_complete_folder_has_no_problems(model_folder: Path) -> None:
    assert list_model_problems(str(model_folder)) == []
    check_model_folder(model_folder.as_uri())


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"qwen3-none cannot be used: there is no such folder.*model\.base"):
        check_model_folder(str(tmp_path / "qwen3-none"))


def test_everything_that_is_missing_is_listed(model_folder: Path) -> None:
    (model_folder / "config.json").unlink()
    (model_folder / "model.safetensors").unlink()
    assert list_model_problems(str(model_folder)) == [
        "config.json is missing",
        "neither model.safetensors nor model.safetensors.index.json is there",
    ]


def test_a_missing_shard_is_named(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (model_folder / "model-1.safetensors").write_bytes(b"x")
    assert list_model_problems(str(model_folder)) == ["the shard model-2.safetensors is missing"]


def test_pickled_weights_are_named_and_not_taken_for_weights(model_folder: Path) -> None:
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    (problem,) = list_model_problems(str(model_folder))
    assert problem.endswith("is there (pytorch_model.bin may be a pickle, which is never loaded)")


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_damaged_index_is_named(model_folder: Path, text: str) -> None:
    (model_folder / "model.safetensors.index.json").write_text(text)
    (problem,) = list_model_problems(str(model_folder))
    assert "model.safetensors.index.json is damaged" in problem


def test_a_put_model_is_complete_verified_and_comes_back(
    store: Store, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTFORGE_CACHE", str(tmp_path / "cache"))
    manifest = put_model(model_folder, store, "qwen3-tiny")
    assert verify_directory(store, "models/qwen3-tiny") == manifest
    uri = f"{store.uri}/models/qwen3-tiny"
    assert list_model_problems(uri) == []
    assert digest_model(uri) == manifest.digest == digest_model(str(model_folder))
    local = localise_model(uri)
    assert (local / "model.safetensors").read_bytes() == (model_folder / "model.safetensors").read_bytes()
    assert localise_model(uri) == local


def test_putting_the_same_model_again_changes_nothing(local_store: Store, model_folder: Path) -> None:
    first = put_model(model_folder, local_store, "m")
    before = {p: p.stat().st_mtime_ns for p in (local_store.local_path("models/m") or Path()).iterdir()}
    assert put_model(model_folder, local_store, "m") == first
    assert {p: p.stat().st_mtime_ns for p in (local_store.local_path("models/m") or Path()).iterdir()} == before


def test_another_model_never_takes_a_used_name(local_store: Store, model_folder: Path) -> None:
    first = put_model(model_folder, local_store, "m")
    (model_folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="holds another model"):
        put_model(model_folder, local_store, "m")
    assert verify_directory(local_store, "models/m") == first


def test_a_half_put_model_is_put_again(local_store: Store, model_folder: Path) -> None:
    put_model(model_folder, local_store, "m")
    (local_store.local_path("models/m/manifest.json") or Path()).unlink()
    put_model(model_folder, local_store, "m")
    verify_directory(local_store, "models/m")


def test_an_unusable_folder_or_name_puts_nothing(local_store: Store, model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model '\.\./m'"):
        put_model(model_folder, local_store, "../m")
    broken = write_model(tmp_path / "broken")
    (broken / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        put_model(broken, local_store, "m")
    assert list(local_store.list_keys()) == []


def test_a_remote_model_without_a_manifest_cannot_be_verified(model_folder: Path, moto, monkeypatch) -> None:
    from voc.store.uri import open_store

    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store("s3://nightforge/unverified")
    for path in model_folder.iterdir():
        store.upload_file(path, f"m/{path.name}")
    with pytest.raises(ModelError, match=r"no manifest\.json.*put-model"):
        localise_model(f"{store.uri}/m")
