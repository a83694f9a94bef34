from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tests.s3_servers import BUCKET, S3Server, free_port
from voc.errors import ObjectExistsError, StoreError
from voc.store import s3 as store_s3
from voc.store.s3 import S3Store
from voc.store.uri import open_store, read_uri


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_s3, "MAX_ATTEMPTS", 1)


@pytest.mark.usefixtures("_no_patience")
def test_an_unreachable_endpoint_is_a_named_error_that_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    server = S3Server(f"http://127.0.0.1:{free_port()}", "key", "secret")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=r"EndpointConnectionError.*AWS_ENDPOINT_URL"):
        open_store("s3://bucket/prefix").check()


@pytest.mark.usefixtures("_no_patience")
def test_missing_credentials_are_a_named_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(StoreError, match="NoCredentialsError"):
        open_store("s3://bucket/prefix").read_bytes("x")


@pytest.mark.usefixtures("_no_patience")
def test_wrong_credentials_are_refused_by_a_real_server(ceph: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = S3Server(ceph.endpoint, ceph.access_key, "not the secret")
    for name, value in wrong.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{BUCKET}/x")
    for operation in (
        store.check,
        lambda: store.read_bytes("a"),
        lambda: store.exists("a"),
        lambda: list(store.list_keys()),
    ):
        with pytest.raises(StoreError, match="credentials") as caught:
            operation()
        assert type(caught.value) is StoreError


@pytest.mark.usefixtures("_no_patience", "s3_server")
def test_a_missing_bucket_is_not_a_missing_key() -> None:
    with pytest.raises(StoreError, match="NoSuchBucket") as caught:
        open_store("s3://no-such-bucket/x").check()
    assert type(caught.value) is StoreError


@pytest.mark.usefixtures("s3_server")
def test_a_store_at_the_bucket_itself_has_no_prefix() -> None:
    store = open_store(f"s3://{BUCKET}")
    store.write_bytes("top/file", b"x")
    assert (store.uri, store.read_bytes("top/file")) == (f"s3://{BUCKET}", b"x")
    assert list(store.list_keys("top")) == ["top/file"]
    assert store.delete_prefix("top") == 1


@pytest.mark.usefixtures("s3_server")
def test_more_objects_are_deleted_than_one_request_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_s3, "DELETE_BATCH", 4)
    store = open_store(f"s3://{BUCKET}")
    keys = [f"{number:02d}" for number in range(10)]
    for key in keys:
        store.write_bytes(f"many/{key}", b"x")
    assert list(store.list_keys("many")) == [f"many/{key}" for key in keys]
    assert store.delete_prefix("many") == len(keys)
    assert list(store.list_keys("many")) == []


class _KeepsEverything:
    """A client whose bulk delete answers 200 and names an object that it did not delete."""

    def get_paginator(self, _: str) -> Any:
        return SimpleNamespace(paginate=lambda **_: [{"Contents": [{"Key": "locked", "Size": 1}]}])

    def delete_objects(self, **_: Any) -> dict[str, Any]:
        return {"Errors": [{"Key": "locked", "Code": "AccessDenied"}]}


def test_a_delete_that_was_refused_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Store, "_client", _KeepsEverything())
    store = S3Store("bucket", "")
    with pytest.raises(StoreError, match="AccessDenied"):
        store.delete_prefix("folder")


@pytest.mark.usefixtures("s3_server")
def test_the_server_itself_refuses_a_second_create(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"s3://{BUCKET}/race")
    store.write_bytes("taken", b"x")
    monkeypatch.setattr(S3Store, "exists", lambda *_: False)  # what a racer saw a moment before
    with pytest.raises(ObjectExistsError):
        store.create_bytes("taken", b"y")
    assert store.read_bytes("taken") == b"x"


class BreakingBody:
    """A response body whose connection breaks after a few bytes."""

    def __init__(self, data: bytes, limit: int) -> None:
        self.data, self.left = data, limit

    def read(self, amount: int) -> bytes:
        if self.left <= 0:
            raise ReadTimeoutError(endpoint_url="http://s3")
        size = min(amount, self.left)
        piece, self.data, self.left = self.data[:size], self.data[size:], self.left - size
        return piece

    def close(self) -> None:
        self.left = 0


@pytest.fixture
def seven_bytes(s3_server: S3Server) -> S3Store:
    store = S3Store(BUCKET, f"streams/{s3_server.endpoint[-5:]}")
    store.write_bytes("key", b"0123456")
    return store


def test_a_stream_whose_connection_breaks_goes_on_where_it_was(
    seven_bytes: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_s3, "RETRY_DELAY_S", 0.0)
    starts = []

    def open_range(key: str, start: int, etag: str) -> BreakingBody:
        starts.append(start)
        return BreakingBody(b"0123456"[start:], limit=3)

    monkeypatch.setattr(seven_bytes, "open_range", open_range)
    assert seven_bytes.open_stream("key").read() == b"0123456"
    assert starts == [0, 3, 6]


def test_a_stream_that_never_comes_is_a_named_error(seven_bytes: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_s3, "RETRY_DELAY_S", 0.0)
    monkeypatch.setattr(seven_bytes, "open_range", lambda key, start, etag: BreakingBody(b"", limit=0))
    with pytest.raises(StoreError, match="broke off at byte 0 5 times"):
        seven_bytes.open_stream("key").read()


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed_with_the_new_one(seven_bytes: S3Store) -> None:
    stream = seven_bytes.open_stream("key")
    seven_bytes.write_bytes("key", b"abcdefg")
    with pytest.raises(StoreError, match="was replaced while it was read"):
        stream.read()


def test_a_key_may_hold_the_characters_of_queries_and_fragments(seven_bytes: S3Store) -> None:
    seven_bytes.write_bytes("a#b?c/d#e.jsonl", b"x")
    assert read_uri(f"{seven_bytes.uri}/a#b?c/d#e.jsonl") == b"x"
