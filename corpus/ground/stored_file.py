"""Large files between the store and this machine: written in place where the store is a folder, else beside and uploaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from voc.errors import IntegrityError
from voc.models.folder import cache_folder
from voc.store.base import Store
from voc.store.manifest import FileEntry, digest_file
from voc.store.uri import open_store, open_uri


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a directory in the store.

    Attributes:
        store_uri: The store.
        prefix: The directory.
        entry: Its path there, size and digest.
    """

    store_uri: str
    prefix: str
    entry: FileEntry

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"{self.store_uri}/{self.prefix}/{self.entry.path}"


def store_file(store_uri: str, prefix: str, name: str, write: Callable[[Path], None]) -> StoredFile:
    """Have a file written and put into the store.

    Args:
        store_uri: The store.
        prefix: The directory; it is not finished until its manifest is there, so an unfinished file in it harms nobody.
        name: The file's path in the directory.
        write: Writes the file to the path it is given.
    """
    store, key = open_store(store_uri), f"{prefix}/{name}"
    place = store.local_path(key)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        write(place)
        return StoredFile(store_uri, prefix, FileEntry(name, place.stat().st_size, digest_file(place)))
    with tempfile.TemporaryDirectory(prefix="nightforge-file-") as folder:
        path = Path(folder) / Path(name).name
        write(path)
        store.upload_file(path, key)
        return StoredFile(store_uri, prefix, FileEntry(name, path.stat().st_size, digest_file(path)))


def store_text(store_uri: str, prefix: str, name: str, pieces: Iterable[str]) -> StoredFile:
    """Put a text into the store, piece by piece: it need not be in memory."""

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)

    return store_file(store_uri, prefix, name, write)


def localise(file: StoredFile, *, verify: bool = False) -> Path:
    """Return a stored file on this machine: its own path there, or a copy that all processes here share.

    Args:
        file: The file.
        verify: Compare its content with its digest; a fresh copy is always compared.

    Raises:
        IntegrityError: If it has other content.
    """
    store, key = open_uri(file.uri)
    path, is_fresh = store.local_path(key), False
    if path is None:
        path = cache_folder() / "files" / file.entry.sha256
        if not path.is_file():
            _download(store, key, path)
            is_fresh = True
    if (verify or is_fresh) and (seen := digest_file(path)) != file.entry.sha256:
        if is_fresh:
            path.unlink()
        raise IntegrityError(
            f"{file.uri} has SHA-256 {seen}",
            expected=file.entry.sha256,
            remedy="the file was damaged or changed after it was written: delete its directory and prepare the run again",
        )
    return path


def _download(store: Store, key: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder) / "copy"
        store.download_file(key, copy)
        copy.replace(path)  # of two processes at once both have the same content
