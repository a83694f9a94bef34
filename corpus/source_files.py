"""The files of a source: a file, a folder or an S3 prefix, without what is not data or not whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from corpus.readers.addresses import make_uri
from voc.errors import DataError, StoreError
from voc.store.base import Store, check_key
from voc.store.manifest import MANIFEST_FORMAT, MANIFEST_NAME
from voc.store.uri import open_store, open_uri

HALF_UPLOADED = "half_uploaded"
MISSING = "missing_file"
# A manifest says that these should be there and whole: a run that goes on without them goes on without data.
UNFINISHED_UPLOADS = (HALF_UPLOADED, MISSING)
UNFINISHED_NAME = "unfinished_name"
_UNFINISHED_SUFFIXES = (".tmp", ".part", ".crswap", "._copying_")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a source.

    Attributes:
        path: Its path below the source; of a source that is one file, its name.
        uri: Where it is (`corpus.readers.addresses.make_uri`).
        size_bytes: Length.
        problem: Why it is not read, or empty.
        is_single: Whether the source is just this file.
    """

    path: str
    uri: str
    size_bytes: int
    problem: str = ""
    is_single: bool = False


def list_files(uri: str) -> list[SourceFile]:
    """List the files of a source, sorted by path, each with the reason why it is not to be read, if there is one.

    Reasons: `manifest`; `hidden_name` (a name or folder that begins with `.` or `_`, as `_SUCCESS` and Spark's
    `_temporary` do); `unfinished_name` (.tmp, .part, .crswap, ._COPYING_: an upload under way or given up); `empty_file`;
    `unusable_name`. Where one of our manifests lists a file with another size it is `half_uploaded`, and a listed file that
    is not there is `missing_file`. A source that is one file is read whatever its name.
    """
    single = _find_file(uri)
    if single is not None:
        store, key, size = single
        expected = _read_sizes(store, [MANIFEST_NAME] if store.exists(MANIFEST_NAME) else [])
        problem = _find_content_problem(size, expected.get(key))
        return [SourceFile(key, make_uri(store, key), size, problem, is_single=True)]
    store = open_store(uri)
    sizes = dict(store.list_sizes())
    expected = _read_sizes(store, [key for key in sizes if key.rpartition("/")[2] == MANIFEST_NAME])
    found = [
        SourceFile(key, f"{make_uri(store, '')}/{key}", size, _find_problem(key, size, expected.get(key)))
        for key, size in sizes.items()
    ]
    found += [SourceFile(key, make_uri(store, key), 0, MISSING) for key in expected if key not in sizes]
    return sorted(found, key=lambda file: file.path)


def _find_file(uri: str) -> tuple[Store, str, int] | None:
    """Return the store, key and size of a source that is one file."""
    if uri.endswith("/") or (uri.startswith("s3://") and "/" not in uri.removeprefix("s3://")):
        return None
    store, key = open_uri(uri)
    if not store.exists(key):
        return None
    with store.open_stream(key) as stream:
        return store, key, stream.seek(0, 2)


def _find_problem(key: str, size_bytes: int, expected_bytes: int | None) -> str:
    return _find_name_problem(key) or _find_content_problem(size_bytes, expected_bytes)


def _find_name_problem(key: str) -> str:
    parts = key.split("/")
    if parts[-1] == MANIFEST_NAME:
        return "manifest"
    if any(part.startswith((".", "_")) for part in parts):
        return "hidden_name"
    if parts[-1].lower().endswith(_UNFINISHED_SUFFIXES):
        return UNFINISHED_NAME
    try:
        check_key(key)
    except StoreError:  # S3 takes names that are no paths: a//b, and the mark of an empty folder, a/
        return "unusable_name"
    return ""


def _find_content_problem(size_bytes: int, expected_bytes: int | None) -> str:
    if expected_bytes is not None and size_bytes != expected_bytes:
        return HALF_UPLOADED
    return "" if size_bytes else "empty_file"


def _read_sizes(store: Store, manifests: Iterable[str]) -> dict[str, int]:
    """Return the sizes that our manifests list; another program's `manifest.json` lists nothing."""
    sizes: dict[str, int] = {}
    for key in manifests:
        folder = key.removesuffix(MANIFEST_NAME)
        try:
            document: Any = json.loads(store.read_bytes(key))
            if document["format"] == MANIFEST_FORMAT:
                sizes |= {f"{folder}{entry['path']}": int(entry["size_bytes"]) for entry in document["files"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return sizes


def make_nothing_found(uri: str, reasons: str) -> DataError:
    """Return the error for a source without a file to read."""
    return DataError(
        f"{uri} holds no file to read{f' ({reasons})' if reasons else ''}",
        expected="files of a known format: .jsonl, .csv, .tsv (each also .gz) or .parquet",
        remedy="check uri and reader of the source",
    )
