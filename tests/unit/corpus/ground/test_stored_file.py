from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from corpus.ground.stored_file import StoredFile, localise, store_file
from tests.s3_servers import BUCKET, S3Server
from voc.errors import IntegrityError
from voc.store.manifest import FileEntry


def test_in_a_folder_a_file_is_written_in_place(tmp_path: Path) -> None:
    stored = store_file(tmp_path.as_uri(), "run/data", "a/b.txt", lambda path: path.write_text("hello") and None)
    assert (tmp_path / "run/data/a/b.txt").read_text() == "hello"
    assert stored.entry.size_bytes == 5
    assert localise(stored, verify=True) == tmp_path / "run/data/a/b.txt"


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    stored = store_file(tmp_path.as_uri(), "data", "x", lambda path: path.write_text("hello") and None)
    (tmp_path / "data/x").write_text("other")
    with pytest.raises(IntegrityError, match="data/x has SHA-256"):
        localise(stored, verify=True)


@pytest.fixture
def bucket(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def test_from_s3_a_file_is_copied_once_and_verified(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTFORGE_CACHE", str(tmp_path / "cache"))
    stored = store_file(bucket, "data", "x.bin", lambda path: path.write_bytes(b"abc") and None)
    first = localise(stored)
    assert first.read_bytes() == b"abc"
    assert localise(stored) == first
    wrong = StoredFile(stored.store_uri, stored.prefix, FileEntry("x.bin", 3, "0" * 64))
    with pytest.raises(IntegrityError, match=r"x\.bin has SHA-256"):
        localise(wrong)
    assert [path.name for path in (tmp_path / "cache/files").iterdir() if path.is_file()] == [stored.entry.sha256]
