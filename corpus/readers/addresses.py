"""Where a split's file is, and how the rows of a file that gives them no id are called."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from voc.store.base import Store
from voc.store.uri import open_store, open_uri

if TYPE_CHECKING:
    from corpus.rows import InputSplit
    from voc.config.data import SourceConfig

_CHUNK_BYTES = 1 << 20


def make_uri(store: Store, key: str) -> str:
    """Return the address of an object: a plain path on this machine's disk, where no character needs an escape, else a URI."""
    path = store.local_path(key)
    if path is not None:
        return str(path)
    return f"{store.uri}/{key}" if key else store.uri


def open_file(uri: str) -> BinaryIO:
    """Open the file that `make_uri` named.

    Raises:
        ObjectNotFoundError: If it is gone.
    """
    store, key = open_uri(uri)
    return store.open_stream(key)


def digest_uri(uri: str) -> str:
    """Return the SHA-256 of the file that `make_uri` named, in hexadecimal."""
    state = hashlib.sha256()
    with open_file(uri) as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def make_id_stem(split: InputSplit, source: SourceConfig) -> str:
    """Return how the ids of a format without ids begin: the file's path below the source, without suffix.

    The path and not the name alone: a source with a folder per day has a `part-00000` in each of them.
    """
    root = make_uri(open_store(source.uri), "")
    name = split.uri.removeprefix(f"{root}/") if split.uri.startswith(f"{root}/") else split.uri.rpartition("/")[2]
    name = name[: -len(".gz")] if name.lower().endswith(".gz") else name
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.rpartition('.')[0] or file}"


def make_row_id(stem: str, line: int) -> str:
    """Return the id of a row in a format that has none: the same whenever the same file is read."""
    return f"{stem}-{line:06d}"
