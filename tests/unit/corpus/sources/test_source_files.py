from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from corpus.sources.formats import read_split
from corpus.sources.splits import list_files, list_splits
from tests.s3_servers import BUCKET, S3Server
from tests.unit.corpus.sources.read_source import make_row, make_source, name_items, to_jsonl
from voc.errors import DataError
from voc.store.base import Store
from voc.store.manifest import commit_folder
from voc.store.uri import open_store

ROWS = [make_row(number) for number in range(50)]
DATA = to_jsonl(ROWS)


@pytest.fixture(params=["local", "moto"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "local":
        return open_store(str(tmp_path / "raw"))
    for name, value in request.getfixturevalue("moto").environment.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://{BUCKET}/{uuid.uuid4().hex}/raw")


def list_problems(store: Store) -> dict[str, str]:
    return {file.path: file.problem for file in list_files(store.uri)}


def test_what_is_not_data_or_not_whole_has_its_reason(store: Store) -> None:
    names = {
        "good.jsonl": "",
        "day/good.csv": "",
        "a.jsonl.tmp": "unfinished_name",
        "b.jsonl.part": "unfinished_name",
        "c.jsonl.crswap": "unfinished_name",
        "d.jsonl._COPYING_": "unfinished_name",
        ".hidden.jsonl": "hidden_name",
        "_SUCCESS": "hidden_name",
        "_temporary/0/part.jsonl": "hidden_name",
        ".ipynb_checkpoints/x.jsonl": "hidden_name",
        "manifest.json": "manifest",
    }
    for name in names:
        store.write_bytes(name, b"x")
    store.write_bytes("zero.jsonl", b"")
    assert list_problems(store) == {**names, "zero.jsonl": "empty_file"}


def test_a_source_in_either_place_gives_its_rows(store: Store) -> None:
    store.write_bytes("2026-11-24/a.jsonl", DATA)
    for uri in (store.uri, f"{store.uri}/", f"{store.uri}/2026-11-24/a.jsonl"):
        source = make_source(uri)
        splits = list_splits(source, watermark=None, split_bytes=999).splits
        assert len(splits) > 5
        items = [item for split in splits for item in read_split(split, source, max_row_bytes=9_999)]
        assert name_items(items) == ROWS


@pytest.fixture
def committed(store: Store, tmp_path: Path) -> Store:
    """A finished folder with a manifest, of which one file is then replaced by its first half."""
    folder = tmp_path / "made"
    folder.mkdir()
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        (folder / name).write_bytes(DATA)
    commit_folder(store, "day", folder)
    store.write_bytes("day/b.jsonl", DATA[: len(DATA) // 2])
    return store


def test_a_half_uploaded_object_is_not_read_and_reported(committed: Store) -> None:
    found = list_splits(make_source(committed.uri), watermark=None)
    assert [split.uri[-7:] for split in found.splits] == ["a.jsonl", "c.jsonl"]
    assert {uri.removeprefix(splits_root(found.splits[0].uri)): reason for uri, reason in found.skipped} == {
        "b.jsonl": "half_uploaded",
        "manifest.json": "manifest",
    }


def splits_root(uri: str) -> str:
    return uri.removesuffix("a.jsonl")


def test_a_half_uploaded_object_that_is_the_whole_source_is_an_error(committed: Store) -> None:
    with pytest.raises(DataError, match="half_uploaded 1"):
        list_splits(make_source(f"{committed.uri}/day/b.jsonl"), watermark=None)
    assert len(list_splits(make_source(f"{committed.uri}/day/a.jsonl"), watermark=None).splits) == 1


def test_an_object_that_the_manifest_lists_and_nobody_uploaded_is_reported(committed: Store) -> None:
    committed.delete_key("day/c.jsonl")
    assert list_problems(committed)["day/c.jsonl"] == "missing_file"


def test_a_half_uploaded_object_of_no_bytes_is_half_uploaded(committed: Store) -> None:
    committed.write_bytes("day/c.jsonl", b"")
    assert list_problems(committed)["day/c.jsonl"] == "half_uploaded"


@pytest.mark.parametrize(
    "document", [b"{", b"[]", b"\xff", json.dumps({"format": "other", "files": [{"path": "a.jsonl"}]}).encode(), b"7"]
)
def test_the_manifest_of_another_program_says_nothing(store: Store, document: bytes) -> None:
    store.write_bytes("a.jsonl", DATA)
    store.write_bytes("manifest.json", document)
    assert list_problems(store) == {"a.jsonl": "", "manifest.json": "manifest"}


def test_names_that_only_s3_has_are_reported(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    import boto3

    client = boto3.client("s3")
    prefix = uuid.uuid4().hex
    for key in (f"{prefix}/day/", f"{prefix}/day//a.jsonl", f"{prefix}/day/b.jsonl"):
        client.put_object(Bucket=BUCKET, Key=key, Body=DATA)
    problems = list_problems(open_store(f"s3://{BUCKET}/{prefix}"))
    assert problems == {"day/": "unusable_name", "day//a.jsonl": "unusable_name", "day/b.jsonl": ""}


def test_a_whole_bucket_may_be_a_source(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    open_store(f"s3://{BUCKET}").write_bytes("top.jsonl", DATA)
    assert "top.jsonl" in {file.path for file in list_files(f"s3://{BUCKET}")}
    assert "top.jsonl" in {file.path for file in list_files(f"s3://{BUCKET}/")}
