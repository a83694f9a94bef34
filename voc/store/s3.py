"""The S3 half of the store (boto3, any endpoint that speaks S3)."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

import boto3.session
from boto3.exceptions import Boto3Error
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from voc.errors import ObjectExistsError, ObjectNotFoundError, StoreError
from voc.store.base import Store, check_key, open_source

MAX_ATTEMPTS = 5
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
DELETE_BATCH = 1000
MAX_CONNECTIONS = 32
STREAM_BYTES = 1 << 20
RETRY_DELAY_S = 0.5

# Clients may be shared by threads, sessions may not; a client costs 0.3 s to make, and stores are opened often.
_CLIENT_LOCK = threading.Lock()


class S3Store(Store):
    """Objects under `s3://bucket/prefix`.

    Endpoint, region and credentials come from the AWS environment variables, profile or instance role. Custom endpoints
    get path-style addresses, because most of them have no wildcard DNS.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")

    @property
    def _client(self) -> Any:
        environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
        with _CLIENT_LOCK:
            return _make_client(os.getpid(), environment)

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}" if self.prefix else check_key(key)

    def _folder(self, prefix: str) -> str:
        full = "/".join(part for part in (self.prefix, check_key(prefix) if prefix else "") if part)
        return f"{full}/" if full else ""

    def _fail(self, key: str, error: Exception) -> NoReturn:
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
        where = f"{self.uri}/{key}"
        if code in {"NoSuchKey", "404", "NotFound"}:
            raise ObjectNotFoundError(f"{where} does not exist", remedy="check the key and the bucket") from error
        if code in {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}:
            raise ObjectExistsError(
                f"{where} exists already", expected="a new key: this write is create-only"
            ) from error
        raise StoreError(
            f"S3 answered {code} for {where}: {error}",
            expected="a reachable endpoint, an existing bucket and credentials that may read and write it",
            remedy="check store.uri, AWS_ENDPOINT_URL, AWS_REGION and the credentials",
        ) from error

    def read_bytes(self, key: str) -> bytes:
        try:
            body: bytes = self._client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
        except (ClientError, BotoCoreError) as error:
            self._fail(key, error)
        return body

    def write_bytes(self, key: str, data: bytes) -> None:
        try:
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)
        except (ClientError, BotoCoreError) as error:
            self._fail(key, error)

    def create_bytes(self, key: str, data: bytes) -> None:
        # Some servers ignore the header (rclone does): the look before the write narrows, but cannot close, that gap.
        if self.exists(key):
            raise ObjectExistsError(f"{self.uri}/{key} exists already", expected="a new key: this write is create-only")
        try:
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*")
        except (ClientError, BotoCoreError) as error:
            self._fail(key, error)

    def exists(self, key: str) -> bool:
        try:
            self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                return False
            self._fail(key, error)
        except BotoCoreError as error:
            self._fail(key, error)
        return True

    def open_stream(self, key: str) -> BinaryIO:
        try:
            head = self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        except (ClientError, BotoCoreError) as error:
            self._fail(key, error)
        raw = _S3File(self, key, head["ContentLength"], head["ETag"])
        return cast(BinaryIO, io.BufferedReader(raw, STREAM_BYTES))

    def open_range(self, key: str, start: int, etag: str) -> Any:
        """Return the body of the object from a byte on.

        Raises:
            StoreError: If it is no longer the object that was opened.
        """
        try:
            answer = self._client.get_object(Bucket=self.bucket, Key=self._key(key), Range=f"bytes={start}-")
        except (ClientError, BotoCoreError) as error:
            self._fail(key, error)
        if answer["ETag"] != etag:
            raise StoreError(
                f"{self.uri}/{key} was replaced while it was read",
                expected="objects that do not change during a run",
                remedy="run again when the upload is over",
            )
        return answer["Body"]

    def list_sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        folder = self._folder(prefix)
        strip = len(self.prefix) + 1 if self.prefix else 0
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=folder)
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"][strip:], entry["Size"]
        except (ClientError, BotoCoreError) as error:
            self._fail(prefix, error)

    def delete_key(self, key: str) -> None:
        try:
            self._client.delete_object(Bucket=self.bucket, Key=self._key(key))
        except (ClientError, BotoCoreError) as error:
            self._fail(key, error)

    def delete_prefix(self, prefix: str) -> int:
        keys = [self._key(key) for key in self.list_keys(check_key(prefix))]
        try:
            for start in range(0, len(keys), DELETE_BATCH):
                batch = [{"Key": key} for key in keys[start : start + DELETE_BATCH]]
                answer = self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
                if answer.get("Errors"):  # a 200 that names what it did not delete
                    raise StoreError(f"S3 did not delete {len(answer['Errors'])} objects: {answer['Errors'][0]}")
        except (ClientError, BotoCoreError) as error:
            self._fail(prefix, error)
        return len(keys)

    def upload_file(self, path: Path, key: str) -> None:
        with open_source(path) as source:
            try:
                self._client.upload_fileobj(source, self.bucket, self._key(key))
            except (ClientError, BotoCoreError, Boto3Error) as error:
                self._fail(key, error)

    def download_file(self, key: str, path: Path) -> None:
        full = self._key(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._client.download_file(self.bucket, full, str(path))
        except (ClientError, BotoCoreError, Boto3Error) as error:
            self._fail(key, error)
        except OSError as error:
            raise StoreError(f"cannot copy {self.uri}/{key} to {path}: {error}") from error


class _S3File(io.RawIOBase):
    """An object as a file that is read forward by one request; a jump, or a broken connection, costs another one."""

    def __init__(self, store: S3Store, key: str, size_bytes: int, etag: str) -> None:
        self._store = store
        self._key = key
        self._size_bytes = size_bytes
        self._etag = etag
        self._position = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to byte {base + offset}")
        if base + offset != self._position:
            self._drop_body()
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size_bytes - self._position)
        if wanted <= 0:
            return 0
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                if self._body is None:
                    self._body = self._store.open_range(self._key, self._position, self._etag)
                data: bytes = self._body.read(wanted)
            except (BotoCoreError, OSError) as error:
                data, problem = b"", error
            else:
                problem = EOFError("the body ended early")
            if data:
                buffer[: len(data)] = data
                self._position += len(data)
                return len(data)
            self._drop_body()
            if attempt < MAX_ATTEMPTS:
                time.sleep(RETRY_DELAY_S * attempt)
        raise StoreError(
            f"{self._store.uri}/{self._key} broke off at byte {self._position} {MAX_ATTEMPTS} times: {problem}",
            remedy="check the connection to the S3 endpoint, then run again",
        ) from problem

    def close(self) -> None:
        self._drop_body()
        super().close()

    def _drop_body(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body = None


@cache
def _make_client(pid: int, environment: tuple[tuple[str, str], ...]) -> Any:
    """Return the client of this process (not its parent's: sockets do not survive a fork) and AWS environment."""
    custom = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} & {name for name, value in environment if value}
    return boto3.session.Session().client(
        "s3",
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if custom else "auto"},
            retries={"max_attempts": MAX_ATTEMPTS, "mode": "standard"},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=MAX_CONNECTIONS,
        ),
    )
