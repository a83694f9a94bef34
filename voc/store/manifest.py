"""Manifests: the list of a directory's files with sizes and SHA-256, written last, so that its presence means *finished*.

A stage is idempotent through them: the same inputs give the same key, and a directory whose manifest names the same
inputs is not made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from voc.errors import IntegrityError, ObjectNotFoundError
from voc.store.base import Store

MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = "nightforge/manifest/1"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a directory; `path` is relative to the directory."""

    path: str
    size_bytes: int
    sha256: str


class FileDocument(TypedDict):
    """A file in `manifest.json`: the attributes of `FileEntry`."""

    path: str
    size_bytes: int
    sha256: str


class ManifestDocument(TypedDict):
    """What `manifest.json` holds.

    Attributes:
        format: `MANIFEST_FORMAT`.
        digest: `Manifest.digest`.
        inputs: What the content depends on; the stage that writes the directory says which keys.
        facts: Figures worth knowing without opening the files; likewise.
        files: Sorted by path.
    """

    format: str
    digest: str
    inputs: Mapping[str, Any]
    facts: Mapping[str, Any]
    files: list[FileDocument]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a finished directory holds and what it was made from.

    Attributes:
        files: Sorted by path.
        inputs: Digests and settings that the content depends on.
        facts: Figures worth knowing without opening the files.
    """

    files: tuple[FileEntry, ...]
    inputs: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents of all files: equal digests mean equal directories."""
        lines = "".join(f"{entry.sha256}  {entry.path}\n" for entry in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, read in chunks."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def digest_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in its canonical form (sorted keys, no spaces)."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def describe_folder(folder: Path) -> tuple[FileEntry, ...]:
    """List the files of a local folder with sizes and digests, sorted, without a manifest of its own."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST_NAME)
    return tuple(FileEntry(p.relative_to(folder).as_posix(), p.stat().st_size, digest_file(p)) for p in paths)


def commit_folder(
    store: Store,
    prefix: str,
    folder: Path,
    *,
    inputs: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Manifest:
    """Put a finished local folder into the store: old content away, files, then the manifest.

    The folder may be the store's own (`store.local_path(prefix)`); then nothing is copied.
    """
    in_place = store.local_path(prefix) == folder.absolute()
    manifest = Manifest(describe_folder(folder), dict(inputs or {}), dict(facts or {}))
    if not in_place:
        store.delete_prefix(prefix)
        for entry in manifest.files:
            store.upload_file(folder / entry.path, f"{prefix}/{entry.path}")
    write_manifest(store, prefix, manifest)
    return manifest


def write_manifest(store: Store, prefix: str, manifest: Manifest) -> None:
    """Write the manifest; the caller has written every file before."""
    document: ManifestDocument = {
        "format": MANIFEST_FORMAT,
        "digest": manifest.digest,
        "inputs": manifest.inputs,
        "facts": manifest.facts,
        "files": [{"path": e.path, "size_bytes": e.size_bytes, "sha256": e.sha256} for e in manifest.files],
    }
    store.write_bytes(f"{prefix}/{MANIFEST_NAME}", json.dumps(document, indent=1, ensure_ascii=False).encode())


def read_manifest(store: Store, prefix: str) -> Manifest | None:
    """Return the manifest of a directory, or None if the directory is not finished."""
    try:
        document: ManifestDocument = json.loads(store.read_bytes(f"{prefix}/{MANIFEST_NAME}"))
        files = tuple(FileEntry(**entry) for entry in document["files"])
        return Manifest(files, document["inputs"], document["facts"])
    except ObjectNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{store.uri}/{prefix}/{MANIFEST_NAME} is not a manifest: {error!r}",
            remedy="delete the directory and run the stage again",
        ) from error


def is_finished(store: Store, prefix: str, inputs: Mapping[str, Any]) -> bool:
    """Tell whether a directory was finished from just these inputs."""
    manifest = read_manifest(store, prefix)
    return manifest is not None and digest_json(manifest.inputs) == digest_json(dict(inputs))


def verify_directory(store: Store, prefix: str) -> Manifest:
    """Compare every file of a directory with its manifest.

    Raises:
        IntegrityError: If the manifest is missing, or a file is missing or has other content.
    """
    manifest = read_manifest(store, prefix)
    if manifest is None:
        raise IntegrityError(
            f"{store.uri}/{prefix} has no {MANIFEST_NAME}",
            expected="a finished directory (the manifest is written last)",
            remedy="run the stage that writes it to its end",
        )
    for entry in manifest.files:
        key = f"{prefix}/{entry.path}"
        path = store.local_path(key)
        try:
            seen = digest_file(path) if path is not None else digest_bytes(store.read_bytes(key))
        except (ObjectNotFoundError, OSError) as error:
            raise IntegrityError(f"{store.uri}/{key} is missing", expected=f"{entry.size_bytes} bytes") from error
        if seen != entry.sha256:
            raise IntegrityError(
                f"{store.uri}/{key} has SHA-256 {seen}",
                expected=entry.sha256,
                remedy="the file was damaged or changed after it was written: make it again",
            )
    return manifest


def download_directory(store: Store, prefix: str, folder: Path) -> Manifest:
    """Bring a finished directory to a local folder and verify it there.

    Raises:
        IntegrityError: If it is not finished, or a file arrives with other content.
    """
    manifest = read_manifest(store, prefix)
    if manifest is None:
        return verify_directory(store, prefix)
    for entry in manifest.files:
        target = folder / entry.path
        if not (target.is_file() and digest_file(target) == entry.sha256):
            store.download_file(f"{prefix}/{entry.path}", target)
        if digest_file(target) != entry.sha256:
            raise IntegrityError(f"{store.uri}/{prefix}/{entry.path} arrived damaged", expected=entry.sha256)
    return manifest
