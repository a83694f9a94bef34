"""One interface over the two places where stages meet: a local folder (`file://`) and S3 (`s3://`, any endpoint).

Keys are relative, `/`-separated and never escape the root. Whole-object writes are atomic in both implementations; the
create-only write has exactly one winner (`O_EXCL` link in a folder, `If-None-Match: *` on S3). There is no locking and no
compare-and-swap, because not every S3 has them.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

from __future__ import annotations

import io
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlparse

from voc.errors import ConfigError, ObjectExistsError, ObjectNotFoundError, StoreError

_COPY_BYTES = 1 << 20


class Store(ABC):
    """Objects under a root URI, addressed by relative keys."""

    uri: str

    @abstractmethod
    def read_bytes(self, key: str) -> bytes:
        """Return the whole object.

        Raises:
            ObjectNotFoundError: If there is no such key.
        """

    @abstractmethod
    def write_bytes(self, key: str, data: bytes) -> None:
        """Write the whole object, replacing an older one atomically."""

    @abstractmethod
    def create_bytes(self, key: str, data: bytes) -> None:
        """Write the object only if the key is new.

        Raises:
            ObjectExistsError: If somebody else was first.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Tell whether the key is an object."""

    @abstractmethod
    def open_stream(self, key: str) -> BinaryIO:
        """Open the object for reading in pieces; it can seek, so a reader takes only what it needs.

        Raises:
            ObjectNotFoundError: If there is no such key.
        """

    @abstractmethod
    def list_sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield the keys under `prefix` (a folder) with their sizes in bytes, sorted."""

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys under `prefix` (a folder), sorted."""
        return (key for key, _ in self.list_sizes(prefix))

    @abstractmethod
    def delete_key(self, key: str) -> None:
        """Delete one object; that it is not there is fine."""

    @abstractmethod
    def delete_prefix(self, prefix: str) -> int:
        """Delete every object under `prefix` (a folder) and return how many there were."""

    @abstractmethod
    def upload_file(self, path: Path, key: str) -> None:
        """Copy a local file to the key, atomically."""

    @abstractmethod
    def download_file(self, key: str, path: Path) -> None:
        """Copy the object to a local path, creating its folders."""

    def local_path(self, key: str) -> Path | None:
        """Return the path of the key on this machine's disk, or None if the store is elsewhere."""
        return None

    def check(self) -> None:
        """Write, read and delete a probe object.

        Raises:
            StoreError: If any of the three fails.
        """
        folder = f".probe/{os.urandom(8).hex()}"  # its own: another process may probe at the same time
        self.write_bytes(f"{folder}/object", b"nightforge")
        if self.read_bytes(f"{folder}/object") != b"nightforge":
            raise StoreError(f"the store {self.uri} returned other bytes than were written")
        if self.delete_prefix(folder) != 1:
            raise StoreError(f"the store {self.uri} does not list an object that was just written")


class LocalStore(Store):
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = self.root.as_uri()

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def local_path(self, key: str) -> Path | None:
        return self._path(key) if key else self.root

    def read_bytes(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise _not_found(self, key) from error
        except OSError as error:
            raise StoreError(f"cannot read {self.uri}/{key}: {error}") from error

    @contextmanager
    def _writing(self, key: str, source: BinaryIO) -> Iterator[tuple[Path, Path]]:
        """Give a complete temporary copy of `source` beside the key's path, and that path; leave nothing behind."""
        path = self._path(key)
        temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                shutil.copyfileobj(source, file, _COPY_BYTES)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, path
        except OSError as error:
            raise StoreError(
                f"cannot write {self.uri}/{key}: {error}",
                expected="a folder this process may write to",
                remedy="check store.uri, its owner and the free disk space",
            ) from error
        finally:
            with suppress(OSError):  # gone after a rename, never made if its folder could not be
                temporary.unlink()

    def write_bytes(self, key: str, data: bytes) -> None:
        with self._writing(key, io.BytesIO(data)) as (temporary, path):
            temporary.replace(path)

    def create_bytes(self, key: str, data: bytes) -> None:
        with self._writing(key, io.BytesIO(data)) as (temporary, path):
            try:
                os.link(temporary, path)  # fails when the name exists: O_EXCL for a complete file
            except FileExistsError as error:
                raise _already_exists(self, key) from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def open_stream(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise _not_found(self, key) from error
        except OSError as error:
            raise StoreError(f"cannot read {self.uri}/{key}: {error}") from error

    def list_sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        folder = self._path(prefix) if prefix else self.root
        found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".tmp-"))
        yield from sorted((p.relative_to(self.root).as_posix(), p.stat().st_size) for p in found)

    def delete_key(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot delete {self.uri}/{key}: {error}", remedy="check its owner") from error

    def delete_prefix(self, prefix: str) -> int:
        folder, keys = self._path(prefix), list(self.list_keys(prefix))
        try:
            if folder.is_dir():
                shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(f"cannot delete {self.uri}/{prefix}: {error}", remedy="check its owner") from error
        return len(keys)

    def upload_file(self, path: Path, key: str) -> None:
        target = self._path(key)
        if target == path.absolute():
            return
        with open_source(path) as source, self._writing(key, source) as (temporary, final):
            temporary.replace(final)

    def download_file(self, key: str, path: Path) -> None:
        source = self._path(key)
        if not source.is_file():
            raise _not_found(self, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
        except OSError as error:
            raise StoreError(f"cannot copy {self.uri}/{key} to {path}: {error}") from error


def open_source(path: Path) -> BinaryIO:
    """Open a local file that is about to be uploaded.

    Raises:
        StoreError: If it cannot be read.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error}", remedy="was it written?") from error


def check_key(key: str) -> str:
    """Return `key` unchanged if it is relative and stays below its root.

    Raises:
        StoreError: If it is absolute, empty or climbs with `..`.
    """
    parts = key.split("/")
    if not key or key.startswith("/") or any(part in {"", ".", ".."} for part in parts):
        raise StoreError(f"the key {key!r} is not usable", expected="a relative path without empty, '.' or '..' parts")
    return key


def open_store(uri: str) -> Store:
    """Open the store that a URI names: `file:///folder`, a plain path, or `s3://bucket/prefix`.

    S3 credentials, region and endpoint come from the usual AWS environment (`AWS_ENDPOINT_URL` for other servers).

    Raises:
        ConfigError: If the scheme is unknown.
    """
    parsed = urlparse(uri)
    if (parsed.scheme == "s3" and not parsed.netloc) or (parsed.scheme == "file" and parsed.netloc):
        raise ConfigError(
            f"the store address {uri!r} has {'no bucket' if parsed.scheme == 's3' else f'the host {parsed.netloc!r}'}",
            expected="file:///folder (three slashes), a path, or s3://bucket/prefix",
        )
    if parsed.scheme == "s3":
        from voc.store_s3 import S3Store  # boto3 costs 0.3 s, and DAG files import this module

        return S3Store(parsed.netloc, uri.partition("://")[2].partition("/")[2].strip("/"))  # a key may hold # and ?
    if parsed.scheme == "file":
        return LocalStore(Path(unquote(parsed.path) or "/"))
    if parsed.scheme == "" and uri:
        return LocalStore(Path(uri))
    raise ConfigError(
        f"the store address {uri!r} has an unknown scheme {parsed.scheme!r}",
        expected="file:///folder, a path, or s3://bucket/prefix",
    )


def open_uri(uri: str) -> tuple[Store, str]:
    """Split an object's URI into its store and key."""
    head, _, name = uri.rstrip("/").rpartition("/")
    if not name or head.endswith(":/") or uri.rstrip("/").endswith(":"):
        raise ConfigError(f"the address {uri!r} names no object", expected="a path or URI with a file name")
    store = open_store(head or ("/" if uri.startswith("/") else "."))
    return store, unquote(name) if urlparse(uri).scheme == "file" else name


def read_uri(uri: str) -> bytes:
    """Return the object that a URI or path names.

    Raises:
        ObjectNotFoundError: If it is not there.
    """
    store, key = open_uri(uri)
    return store.read_bytes(key)


def _not_found(store: Store, key: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(
        f"{store.uri}/{key} does not exist", remedy="check the path; is the stage that writes it finished?"
    )


def _already_exists(store: Store, key: str) -> ObjectExistsError:
    return ObjectExistsError(f"{store.uri}/{key} exists already", expected="a new key: this write is create-only")
