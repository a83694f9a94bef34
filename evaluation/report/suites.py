"""What the suites cost: items, tokens, wall time and cache hits per model, added up from the manifests of their shards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from voc.run import ModelEntry, Run
from voc.store.manifest import read_manifest

_SHARD = re.compile(r"([^/]+)/shard-\d+-of-\d+/manifest\.json")
_SHARD_STAGE = re.compile(r"(.+)-\d{3}-of-(\d{3})")


def read_suites(run: Run, models: Sequence[ModelEntry]) -> list[dict[str, Any]]:
    """Return one row per model and suite, in the order of the models; suites that no report knows by name are there too."""
    rows = []
    for model in models:
        prefix = run.layout.evaluation(model.name)
        facts: dict[str, list[Mapping[str, Any]]] = {}
        for key in run.store.list_keys(prefix):
            match = _SHARD.fullmatch(key.removeprefix(f"{prefix}/"))
            manifest = read_manifest(run.store, key.rpartition("/")[0]) if match else None
            if match and manifest:
                facts.setdefault(match[1], []).append(manifest.facts)
        rows += [{"model": model.name, "suite": suite, **add_up_shards(found)} for suite, found in facts.items()]
    return rows


def add_up_shards(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the facts of one suite's shards; what no shard says is None.

    Returns:
        `shards`, `items`, `resumed_items`, `wall_s` of the slowest shard, `prompt_tokens`, `completion_tokens`,
        `completion_tokens_per_s` (all tokens over the slowest shard's time; None if a shard was resumed, because then that
        time is not the whole one), `cached_prompt_ratio` (share of prompt tokens that the engine had computed before, after
        the first rows), `retries` (requests sent again, by reason), `engines`, `cached_shards` that an earlier run had
        measured, and the runs that did (`measured_in`). The costs of a cached shard are those of that run.
    """
    wall_s = max((float(facts["wall_s"]) for facts in shards if facts.get("wall_s") is not None), default=None)
    tokens, resumed = _sum(shards, "completion_tokens"), _sum(shards, "resumed_items")
    caches = [facts["prefix_cache"] for facts in shards if facts.get("prefix_cache")]
    hits = [facts["cache"] for facts in shards if (facts.get("cache") or {}).get("hit")]
    looked_up = _sum(caches, "prompt_tokens")
    return {
        "shards": len(shards),
        "items": _sum(shards, "items"),
        "resumed_items": resumed,
        "wall_s": wall_s,
        "prompt_tokens": _sum(shards, "prompt_tokens"),
        "completion_tokens": tokens,
        "completion_tokens_per_s": tokens / wall_s if tokens is not None and wall_s and not resumed else None,
        "cached_prompt_ratio": (_sum(caches, "cached_tokens") or 0) / looked_up if looked_up else None,
        "cached_shards": len(hits),
        "measured_in": sorted({str(hit["measured_in"]) for hit in hits}),
        "retries": dict(sorted(sum((Counter(facts.get("retries") or {}) for facts in shards), Counter()).items())),
        "engines": sorted({str(facts["engine"]) for facts in shards if facts.get("engine")}),
    }


def _sum(shards: Sequence[Mapping[str, Any]], name: str) -> int | None:
    values = [int(facts[name]) for facts in shards if facts.get(name) is not None]
    return sum(values) if values else None


def group_stages(timings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put the shards of one suite on one line: how many there were, and how long the slowest and all of them together took."""
    groups: dict[str, dict[str, Any]] = {}
    for timing in timings:
        match = _SHARD_STAGE.fullmatch(timing["stage"])
        name = match[1] if match else timing["stage"]
        group = groups.setdefault(name, {"stage": name, "shards": 0, "wall_s": 0.0, "sum_s": 0.0})
        group["shards"] += 1
        group["wall_s"] = max(group["wall_s"], timing["wall_s"])
        group["sum_s"] += timing["wall_s"]
    return list(groups.values())
