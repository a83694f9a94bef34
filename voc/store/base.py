"""One interface over the two places where stages meet: a local folder (`file://`) and S3 (`s3://`, any endpoint).

Keys are relative, `/`-separated and never escape the root. Whole-object writes are atomic in both implementations; the
create-only write has exactly one winner (`O_EXCL` link in a folder, `If-None-Match: *` on S3). There is no locking and no
compare-and-swap, because not every S3 has them.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from voc.errors import StoreError


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
