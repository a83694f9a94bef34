"""The store in a folder, where whole-object writes are renames and the create-only write is a hard link."""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from voc.errors import ObjectExistsError, ObjectNotFoundError, StoreError
from voc.store.base import Store, check_key, open_source

_COPY_BYTES = 1 << 20


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


def _not_found(store: Store, key: str) -> ObjectNotFoundError:
    return ObjectNotFoundError(
        f"{store.uri}/{key} does not exist", remedy="check the path; is the stage that writes it finished?"
    )


def _already_exists(store: Store, key: str) -> ObjectExistsError:
    return ObjectExistsError(f"{store.uri}/{key} exists already", expected="a new key: this write is create-only")
