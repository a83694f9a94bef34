"""Finished shards of earlier nights, found again by everything that they depend on: a frozen base is asked once, not every night.

A shard's key is the hash of its inputs (model digest, task version, hashes of prompts, chat template and data, decoding,
which shard), of the engine and how it computes, of lm-eval's version, and of the code that asks and reads: everything of this
project that the suite's asking module imports, however far, and no more. So another parser measures anew, and another report
does not. A hit is a verified copy in the run's own place; its manifest says so (`facts.cache`), and results and report take
it from there. Only models that are served from their weights here are kept: a closed service may change behind its name.

Any shard suite can use it. Entries are never changed; a damaged one is thrown away and measured again. Nothing removes old
ones: set a lifecycle rule on `cache/`.
"""

from __future__ import annotations

import ast
import functools
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from evaluation.serving.endpoint import Endpoint
from voc.config.serving import ServingConfig
from voc.errors import StoreError
from voc.run import Run
from voc.store.layout import result_cache_key
from voc.store.manifest import Manifest, commit_folder, digest_bytes, digest_json, download_directory, read_manifest

ROOT = Path(__file__).parents[2]
CACHE_FORMAT = "nightforge/result-cache/1"


@dataclass(frozen=True)
class ResultCache:
    """What is kept of one shard.

    Attributes:
        run: The run that needs the shard.
        inputs: What its answers depend on, as its suite describes it; holds `suite` and `model_digest`.
        endpoint: Who answers.
        code: Digest of the code that asks and reads, from `digest_code`.
        depends: Everything the answers depend on.
    """

    run: Run
    inputs: Mapping[str, Any]
    endpoint: Endpoint
    code: str
    depends: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        depends = describe_dependence(self.inputs, self.endpoint, self.run.config.serving, self.code)
        object.__setattr__(self, "depends", depends)

    @property
    def prefix(self) -> str | None:
        """Where the shard is kept; None if it must not be."""
        is_pinned = self.endpoint.kind == "vllm" and self.endpoint.model_digest == self.inputs["model_digest"]
        if not (self.run.config.evaluation.cache and is_pinned):
            return None
        return result_cache_key(str(self.inputs["suite"]), digest_json(dict(self.depends)))

    def bring(self, shard: str) -> bool:
        """Put the kept shard into the run's place `shard`, verified; return whether there was one.

        A kept shard that is damaged is removed, which is printed, and counts as not there.
        """
        prefix, store = self.prefix, self.run.store
        if prefix is None or read_manifest_or_none(self.run, prefix) is None:
            return False
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                manifest = download_directory(store, prefix, folder)
            except StoreError as error:
                print(f"cache: {store.uri}/{prefix} is damaged and removed: {error}", flush=True)
                store.delete_prefix(prefix)
                return False
            if digest_json(manifest.inputs) != digest_json(dict(self.depends)):
                return False  # somebody else's content under our key: never taken, whatever it is
            kept = manifest.facts["cache"]
            facts = {**manifest.facts, "cache": {**kept, "hit": True}}
            commit_folder(store, shard, folder, inputs=self.inputs, facts=facts)
        print(
            f"{self.inputs['suite']}: the same was measured in {kept['measured_in']}, taken from the cache", flush=True
        )
        return True

    def keep(self, shard: str) -> None:
        """Keep a shard that this run has just finished; one that is kept already stays."""
        prefix, store = self.prefix, self.run.store
        if prefix is None or read_manifest_or_none(self.run, prefix) is not None:
            return
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            manifest = download_directory(store, shard, folder)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            origin = {"hit": False, "measured_in": self.run.layout.run_id, "measured_at": now}
            commit_folder(store, prefix, folder, inputs=self.depends, facts={**manifest.facts, "cache": origin})


def read_manifest_or_none(run: Run, prefix: str) -> Manifest | None:
    """Return the manifest of a kept shard; None if there is none, or a damaged one, which is removed."""
    try:
        return read_manifest(run.store, prefix)
    except StoreError as error:
        print(f"cache: {run.store.uri}/{prefix} is damaged and removed: {error}", flush=True)
        run.store.delete_prefix(prefix)
        return None


def describe_dependence(
    inputs: Mapping[str, Any], endpoint: Endpoint, serving: ServingConfig, code: str
) -> dict[str, Any]:
    """Return everything that answers depend on, beyond what their suite knows."""
    return {
        "format": CACHE_FORMAT,
        "inputs": dict(inputs),
        "engine": endpoint.engine,
        "serving": {
            "dtype": serving.dtype,
            "tensor_parallel_size": serving.tensor_parallel_size,
            "max_model_len": serving.max_model_len,
        },
        "lm_eval": _find_version("lm_eval"),
        "code": code,
    }


def summarise_hits(shards: Mapping[str, Iterable[Manifest]]) -> dict[str, dict[str, Any]]:
    """Return, per suite, how many of its shards came from the cache, and of which runs; suites without a hit are left out."""
    summary = {}
    for suite, manifests in shards.items():
        found = [manifest.facts.get("cache") or {} for manifest in manifests]
        hits = [cache for cache in found if cache.get("hit")]
        if hits:
            summary[suite] = {
                "hits": len(hits),
                "shards": len(found),
                "measured_in": sorted({str(cache["measured_in"]) for cache in hits}),
                "measured_at": sorted({str(cache["measured_at"]) for cache in hits}),
            }
    return summary


@functools.cache
def digest_code(module: str) -> str:
    """Return the digest of a module and of everything of this project that it imports, and of the task files beside them."""
    modules = find_imported(module, ROOT)
    folders = {path.parent for path in modules.values()}
    tasks = {path for folder in folders for pattern in ("*.yaml", "tasks/*.yaml") for path in folder.glob(pattern)}
    paths = sorted({*modules.values(), *tasks})
    return digest_json({str(path.relative_to(ROOT)): digest_bytes(path.read_bytes()) for path in paths})


def find_imported(module: str, root: Path) -> dict[str, Path]:
    """Return a module and all that it imports below `root`, at any depth and inside functions too, with their files.

    Packages count by their `__init__` only where they are imported themselves; what is imported by a text is not followed.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = root.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not path.is_file():
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
