"""Shards of a suite: which items belong to one, the part file that survives a kill, and how every suite runs
one: nothing if it is finished, a copy if the same was measured before, else asked and kept.

Item i belongs to shard i % num_shards, so shards are of equal length and every prefix of a data set is spread over all.
A suite appends each finished item to a part file beside the shard's directory. For a store that is not a local folder it is
written in the cache folder and copied to the store now and then. A suite that is started again goes on from it; the part
file is removed when the shard is finished.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

from evaluation.serving.endpoint import Endpoint, find_served_model
from evaluation.shards.cache import ResultCache, digest_code
from evaluation.suites.protocol import PlannedSuite
from voc.errors import ConfigError
from voc.models.folder import cache_folder
from voc.run import Run
from voc.store.base import Store
from voc.store.manifest import commit_folder, digest_bytes, digest_json, is_finished

PART_SUFFIX = ".part.jsonl"
COPY_EVERY_S = 30.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` shards."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ConfigError(f"the shard {self.number} of {self.count}", expected=f"0 to {self.count - 1}")

    def pick(self, items: Sequence[T]) -> list[T]:
        """Return this shard's items, in order."""
        return list(items[self.number :: self.count])


class PartFile:
    """Finished lines of an unfinished shard; use it with `with`.

    Args:
        store: Where the shard is written.
        prefix: The shard's directory.
        inputs: What the lines depend on; a part file of other inputs is started over.
    """

    def __init__(self, store: Store, prefix: str, inputs: Mapping[str, Any]) -> None:
        self._store = store
        self._key = f"{prefix}{PART_SUFFIX}"
        self._head = json.dumps({"inputs": digest_json(dict(inputs))}).encode() + b"\n"
        local = store.local_path(self._key)
        self._path = local or cache_folder() / "parts" / digest_bytes(f"{store.uri}/{self._key}".encode())
        self._is_remote = local is None
        self._copied_at = time.monotonic()
        self._file: BinaryIO | None = None
        self.lines: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._is_remote and not self._path.exists() and self._store.exists(self._key):
            self._store.download_file(self._key, self._path)
        length, self.lines = self._read()
        # Appending, so that a process that is thought dead and writes on tears no line of this one.
        self._file = self._path.open("ab")
        self._file.truncate(length)
        if not length:
            self._file.write(self._head)
            self._file.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, line: dict[str, Any]) -> None:
        """Keep one finished line, out of this process before this returns."""
        if self._file is None:
            raise RuntimeError("use the part file with `with`")
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self.lines.append(line)
        if self._is_remote and time.monotonic() - self._copied_at > COPY_EVERY_S:
            self._store.upload_file(self._path, self._key)
            self._copied_at = time.monotonic()

    def remove(self) -> None:
        """Remove the part file, here and in the store."""
        self._path.unlink(missing_ok=True)
        self._store.delete_key(self._key)

    def _read(self) -> tuple[int, list[dict[str, Any]]]:
        """Return the length in bytes of what can be used, 0 if the file is of other inputs, and its lines.

        A kill tears the last line, a full disk or a broken copy tears others: everything from the first line that cannot be read
        is asked again, and said.
        """
        data = self._path.read_bytes() if self._path.exists() else b""
        if not data.startswith(self._head):
            return 0, []
        lines: list[dict[str, Any]] = []
        length = len(self._head)
        for raw in data[length:].splitlines(keepends=True):
            line = _load_line(raw)
            if line is None:
                print(
                    f"{self._key}: {len(lines)} lines are whole, the {len(data) - length} bytes after them are dropped"
                )
                break
            lines.append(line)
            length += len(raw)
        return length, lines


def _load_line(raw: bytes) -> dict[str, Any] | None:
    """Return a line that was written to its end, else None."""
    try:
        line = json.loads(raw) if raw.endswith(b"\n") else None
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def finish_shard(
    store: Store,
    prefix: str,
    name: str,
    lines: Iterable[Mapping[str, Any]],
    *,
    inputs: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Write a shard's lines and then its manifest."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / name).write_text(text, encoding="utf-8")
        commit_folder(store, prefix, folder, inputs=inputs, facts=facts)


def say_if_finished(run: Run, prefix: str, inputs: Mapping[str, Any], what: str) -> bool:
    """Tell whether a shard was finished from just these inputs, and print that nothing is done."""
    if not is_finished(run.store, prefix, inputs):
        return False
    print(f"{what}: finished already, nothing to do", flush=True)
    return True


Line = dict[str, Any]
Ask = Callable[[Endpoint, PartFile], tuple[Sequence[Line], dict[str, Any]]]


def run_shard(
    run: Run,
    model: str,
    planned: PlannedSuite,
    shard: Shard,
    *,
    inputs: Mapping[str, Any],
    ask: Ask,
    module: str,
) -> dict[str, Any] | None:
    """Ask one shard's questions, unless that was done, and write its lines and its manifest.

    Args:
        run: The run.
        model: Name of the model.
        planned: The suite.
        shard: Which items.
        inputs: What the answers depend on beside the code; holds `suite` and `model_digest`.
        ask: Asks what the part file does not hold yet; returns a line per item and figures for the manifest.
        module: The module that asks and reads; answers depend on it and on everything that it imports.

    Returns:
        The figures, with `wall_s`, `resumed_items` and `engine`; None if nothing was asked.

    Raises:
        EndpointError: If the model is not served, another one is, or a request failed for good.
    """
    suite = planned.name
    prefix = run.layout.shard(model, suite, shard.number, shard.count)
    if say_if_finished(run, prefix, inputs, f"{suite} {model} {shard.number}/{shard.count}"):
        return None
    endpoint, start = find_served_model(run, model, inputs["model_digest"]), time.monotonic()
    cache = ResultCache(run, inputs, endpoint, digest_code(module))
    if cache.bring(prefix):
        return None
    with (
        run.timed(f"{suite}-{model}-{shard.number:03d}-of-{shard.count:03d}"),
        PartFile(run.store, prefix, inputs) as part,
    ):
        resumed = len({line["custom_id"] for line in part.lines})
        lines, facts = ask(endpoint, part)
        facts |= {
            "wall_s": round(time.monotonic() - start, 3),
            "resumed_items": resumed,
            "engine": endpoint.engine,
        }
        finish_shard(run.store, prefix, planned.file_name, lines, inputs=inputs, facts=facts)
        part.remove()
    cache.keep(prefix)
    return facts
