"""From an address to its store: `file:///folder`, a plain path, or `s3://bucket/prefix`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

from voc.errors import ConfigError
from voc.store.base import Store
from voc.store.local import LocalStore


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
        from voc.store.s3 import S3Store  # boto3 costs 0.3 s, and DAG files import this module

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
