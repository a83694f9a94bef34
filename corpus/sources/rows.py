"""What sources consist of: a format, a file, a split of it and its lines; the addresses of files and the ids of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from voc.records.lines import Line, RawRow, is_gzip, read_lines
from voc.records.refusals import Rejection
from voc.store.base import Store
from voc.store.uri import open_store, open_uri

if TYPE_CHECKING:
    from voc.config.data import SourceConfig

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source.

    Attributes:
        path: Its path below the source; of a source that is one file, its name.
        uri: Where it is (`make_uri`).
        size_bytes: Length.
        problem: Why it is not read, or empty.
        is_single: Whether the source is just this file.
    """

    path: str
    uri: str
    size_bytes: int
    problem: str = ""
    is_single: bool = False


@dataclass(frozen=True, slots=True)
class InputSplit:
    """A piece of one source that one task reads from its begin to its end, in bounded memory.

    Attributes:
        source: Name of the source.
        uri: The file (path or URI), or the data set id.
        reader: How it is read (`voc.config.data.ReaderName` without `auto`).
        start: First byte (lines), row group (Parquet) or row (datasets).
        end: Where it ends, exclusive; None: at the end of the file.
        day: ISO day of its partition, or None.
        is_replay: True if the day is not newer than the watermark, so only a share of its rows is taken.
    """

    source: str
    uri: str
    reader: str
    start: int = 0
    end: int | None = None
    day: str | None = None
    is_replay: bool = False


Rows = Iterator[RawRow | Rejection]
Range = tuple[int, int | None]


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """One input format.

    Attributes:
        read: Yields the rows of a split; the last argument is the longest row in bytes.
        cut: Yields start and end of the pieces of a file that one task each reads; the last argument is their size in bytes.
        suffixes: Of the files that it reads where the configuration names it, in small letters.
        auto_suffix: The suffix for which `reader: auto` takes it; empty: it must be named.
        can_be_packed: Whether its files may be packed with gzip too.
        has_columns: Whether `data.sources[].columns` maps its columns.
    """

    read: Callable[[InputSplit, SourceConfig, int], Rows]
    cut: Callable[[SourceFile, SourceConfig, int], Iterator[Range]]
    suffixes: tuple[str, ...] = ()
    auto_suffix: str = ""
    can_be_packed: bool = True
    has_columns: bool = False


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


def read_split_lines(split: InputSplit, max_row_bytes: int) -> Iterator[Line | Rejection]:
    """Yield the lines of a file or of a byte range of it; a damaged or shortened file ends with one refusal."""
    with open_file(split.uri) as file:
        yield from read_lines(
            file, is_packed=is_gzip(split.uri), max_row_bytes=max_row_bytes, start=split.start, end=split.end
        )


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
    name = name[: -len(".gz")] if is_gzip(name) else name
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.rpartition('.')[0] or file}"


def make_row_id(stem: str, line: int) -> str:
    """Return the id of a row in a format that has none: the same whenever the same file is read."""
    return f"{stem}-{line:06d}"
