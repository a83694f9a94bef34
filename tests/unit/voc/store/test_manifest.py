from __future__ import annotations

import json
from pathlib import Path

import pytest

from voc.errors import IntegrityError
from voc.store.base import Store
from voc.store.manifest import (
    MANIFEST_NAME,
    Manifest,
    commit_folder,
    describe_folder,
    digest_json,
    download_directory,
    is_finished,
    read_manifest,
    verify_directory,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_text("alpha")
    (made / "sub" / "b.txt").write_text("beta")
    return made


def test_a_committed_folder_verifies_and_comes_back(store: Store, folder: Path, tmp_path: Path) -> None:
    written = commit_folder(store, "models/m", folder, inputs={"seed": 1}, facts={"rows": 2})
    assert verify_directory(store, "models/m") == written
    assert download_directory(store, "models/m", tmp_path / "back") == written
    assert (tmp_path / "back" / "sub" / "b.txt").read_text() == "beta"
    assert describe_folder(tmp_path / "back") == written.files


def test_the_manifest_is_written_last(local_store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for name in ("upload_file", "write_bytes"):
        real = getattr(local_store, name)

        def spy(first, second, real=real, name=name):
            order.append(str(second if name == "upload_file" else first))
            return real(first, second)

        monkeypatch.setattr(local_store, name, spy)
    commit_folder(local_store, "m", folder)
    assert order == ["m/a.txt", "m/sub/b.txt", f"m/{MANIFEST_NAME}"]


def test_a_folder_whose_upload_broke_off_is_not_finished(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_folder(store, "m", folder, inputs={"seed": 1})
    (folder / "a.txt").write_text("newer")
    real = store.upload_file

    def breaks(path: Path, key: str) -> None:
        if key.endswith("b.txt"):
            raise KeyboardInterrupt
        real(path, key)

    monkeypatch.setattr(store, "upload_file", breaks)
    with pytest.raises(KeyboardInterrupt):
        commit_folder(store, "m", folder, inputs={"seed": 1})
    assert read_manifest(store, "m") is None
    assert not is_finished(store, "m", {"seed": 1})
    with pytest.raises(IntegrityError, match=r"no manifest\.json"):
        verify_directory(store, "m")


def test_files_of_an_earlier_version_are_gone(store: Store, folder: Path) -> None:
    commit_folder(store, "m", folder)
    (folder / "a.txt").unlink()
    commit_folder(store, "m", folder)
    assert list(store.list_keys("m")) == [f"m/{MANIFEST_NAME}", "m/sub/b.txt"]


def test_a_changed_file_is_detected_by_its_checksum(store: Store, folder: Path, tmp_path: Path) -> None:
    commit_folder(store, "m", folder)
    store.write_bytes("m/a.txt", b"alphA")  # same length
    with pytest.raises(IntegrityError, match=r"m/a\.txt has SHA-256"):
        verify_directory(store, "m")
    with pytest.raises(IntegrityError, match=r"m/a\.txt arrived damaged"):
        download_directory(store, "m", tmp_path / "back")


def test_a_missing_file_is_detected(store: Store, folder: Path) -> None:
    commit_folder(store, "m", folder)
    store.delete_prefix("m/sub")
    with pytest.raises(IntegrityError, match=r"m/sub/b\.txt is missing"):
        verify_directory(store, "m")


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"files": [{"name": "x"}], "inputs": {}, "facts": {}}'])
def test_a_damaged_manifest_is_a_named_error(local_store: Store, content: bytes) -> None:
    local_store.write_bytes(f"m/{MANIFEST_NAME}", content)
    with pytest.raises(IntegrityError, match="not a manifest"):
        read_manifest(local_store, "m")


def test_finished_means_the_same_inputs(local_store: Store, folder: Path) -> None:
    commit_folder(local_store, "m", folder, inputs={"a": 1, "b": [1, 2]})
    assert is_finished(local_store, "m", {"b": [1, 2], "a": 1})
    assert not is_finished(local_store, "m", {"a": 1, "b": [2, 1]})
    assert not is_finished(local_store, "other", {"a": 1})


def test_a_folder_inside_the_store_is_committed_in_place(local_store: Store) -> None:
    local_store.write_bytes("m/a.txt", b"alpha")
    path = local_store.local_path("m")
    assert path is not None
    commit_folder(local_store, "m", path)
    assert [entry.path for entry in verify_directory(local_store, "m").files] == ["a.txt"]


def test_the_digest_depends_on_names_and_contents_only(folder: Path, local_store: Store) -> None:
    first = Manifest(describe_folder(folder))
    assert commit_folder(local_store, "m", folder, facts={"when": "now"}).digest == first.digest
    (folder / "a.txt").rename(folder / "c.txt")
    assert Manifest(describe_folder(folder)).digest != first.digest


def test_the_manifest_is_readable_by_people_and_states_its_digest(local_store: Store, folder: Path) -> None:
    written = commit_folder(local_store, "m", folder, inputs={"comment": "größer"})
    document = json.loads(local_store.read_bytes(f"m/{MANIFEST_NAME}"))
    assert document["digest"] == written.digest
    assert "größer" in local_store.read_bytes(f"m/{MANIFEST_NAME}").decode()


def test_key_order_does_not_change_a_json_digest() -> None:
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1}) != digest_json({"a": 2, "b": 1})
