"""How much of the prompts an engine had computed before: what makes prompts of 35,000 tokens of labels affordable.

All prompts of the `taxonomy` variant begin with the same bytes, task and labels, and the comment comes last. The engine keeps the
blocks of that beginning once one prompt is through, so one prompt goes first (one for each copy of the weights, whose caches
are their own) and the wave follows; without it, every request of the first batch would compute all labels. `wait` sends it
before the shards start, and a shard begins with it too, for the engine may have been restarted or be somebody's who did not wait.

Two measures: per request, what the engine says about its prompt (`usage.prompt_tokens_details`), exact for these rows; and the
counters of the whole engine over the time of a shard, which other suites share.

Source: https://docs.vllm.ai/en/latest/features/automatic_prefix_caching/;
https://docs.vllm.ai/en/latest/usage/metrics/ (vllm:prefix_cache_queries, vllm:prefix_cache_hits, both in tokens).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.clients.interface import Completion
from evaluation.clients.opening import open_client
from evaluation.serving.endpoint import Endpoint, get_text
from voc.errors import EndpointError
from voc.labels.taxonomy import parse_taxonomy
from voc.prompts import PromptVariant, render_messages
from voc.run import Run

_COUNTER = re.compile(r"^vllm:prefix_cache_(queries|hits)_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


def count_primers(endpoint: Endpoint, variant: PromptVariant, copies: int) -> int:
    """Return how many prompts go before the wave: one per copy of the weights where prompts share a long beginning."""
    return copies if variant == "taxonomy" and endpoint.kind == "vllm" else 0


def prime_prompts(run: Run, endpoint: Endpoint) -> None:
    """Let the engine compute the beginning that the run's prompts share, where that is worth it.

    A prompt that does not fit or fails is said and nothing else: the shards ask again and name what is wrong.
    """
    primers = count_primers(endpoint, run.config.prompt.variant, run.config.serving.data_parallel_size)
    if not primers:
        return
    place = f"{run.layout.data}/taxonomy.csv"
    taxonomy = parse_taxonomy(run.store.read_bytes(place).decode(), place)
    messages, start = render_messages("", run.config.prompt.variant, taxonomy), time.monotonic()

    async def ask_all() -> list[Completion]:
        async with open_client(endpoint, concurrency=primers) as client:
            return await asyncio.gather(*(client.chat(messages, max_tokens=1) for _ in range(primers)))

    try:
        tokens = asyncio.run(ask_all())[0].prompt_tokens
    except EndpointError as error:
        print(f"prefix cache: not primed: {error}", flush=True)
        return
    print(f"prefix cache: {primers} x {tokens} tokens computed in {time.monotonic() - start:.1f} s", flush=True)


def describe_hits(usages: Sequence[Mapping[str, Any]], primers: int) -> dict[str, Any] | None:
    """Return the share of prompt tokens that were in the cache, over all rows but the first ones.

    Args:
        usages: `prompt_tokens` and `cached_tokens` of rows in the order in which they were answered.
        primers: Rows that went first; at least the very first row is left out.

    Returns:
        `rows`, `prompt_tokens`, `cached_tokens` and `hit_ratio`; None if the server does not tell, or there is no further row.
    """
    told = [usage for usage in usages[max(primers, 1) :] if usage.get("cached_tokens") is not None]
    prompt_tokens = sum(usage["prompt_tokens"] for usage in told)
    if not prompt_tokens:
        return None
    cached_tokens = sum(usage["cached_tokens"] for usage in told)
    return {
        "rows": len(told),
        "primers": primers,
        "prompt_tokens": prompt_tokens,
        "cached_tokens": cached_tokens,
        "hit_ratio": cached_tokens / prompt_tokens,
    }


def read_counters(endpoint: Endpoint) -> dict[str, float] | None:
    """Return the engine's counters of prompt tokens, over all copies; None where there are none to read."""
    if endpoint.kind != "vllm":
        return None
    try:
        text = get_text(f"{endpoint.url.removesuffix('/v1')}/metrics")
    except OSError as error:
        # A figure of the side: the suite does not fail for it, and says why it has none.
        print(f"the engine's counters of its prefix cache cannot be read: {error}", flush=True)
        return None
    return parse_counters(text)


def parse_counters(text: str) -> dict[str, float] | None:
    """Read `queries` and `hits` from a page in Prometheus' text format."""
    counters: dict[str, float] = {}
    for name, value in _COUNTER.findall(text):
        counters[name] = counters.get(name, 0.0) + float(value)
    return counters if counters.keys() == {"queries", "hits"} else None


def describe_engine(before: Mapping[str, float] | None, after: Mapping[str, float] | None) -> dict[str, Any] | None:
    """Return what the whole engine looked up and found between two readings; None if one is missing or it was restarted."""
    if before is None or after is None or after["queries"] < before["queries"]:
        return None
    queries, hits = after["queries"] - before["queries"], after["hits"] - before["hits"]
    return {"prompt_tokens": queries, "cached_tokens": hits, "hit_ratio": hits / queries if queries else None}
