"""Ask a served model for the segments of every test comment of one shard.

    python -m evaluation voc --store-uri URI --run-id ID --model NAME --shard 0 --num-shards 2

Reads: models.json, data/test.jsonl, data/taxonomy.csv, endpoint.json. Needs NIGHTFORGE_ENDPOINT_KEY.
Writes: evaluation/<model>/voc/shard-.../ {predictions.jsonl, manifest}: one line per item, in the order of the test set. A line
holds custom_id, prompt_hash, text, finish_reason, usage, segments, failure, strict, repair. Greedy decoding. A run that is
killed goes on where it stopped.

All prompts of the `taxonomy` variant begin with the same bytes, task and labels, 35,000 tokens of them, and the comment comes
last. The engine keeps the blocks of that shared prefix once one prompt is through, so one prompt goes first (one for each copy of
the weights, whose caches are their own) and the wave follows; without it, every request of the first batch would compute all
labels. `wait` sends it before the shards start, and a shard begins with it too, for the engine may have been restarted or be
somebody's who did not wait. Two measures: per request, what the engine says about its prompt (`usage.prompt_tokens_details`),
exact for these rows; and the counters of the whole engine over the time of a shard, which other suites share.

Source: https://docs.vllm.ai/en/latest/features/automatic_prefix_caching/;
https://docs.vllm.ai/en/latest/usage/metrics/ (vllm:prefix_cache_queries, vllm:prefix_cache_hits, both in tokens).
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from evaluation.clients.interface import ChatClient, Completion, PromptTooLongError, gather_all
from evaluation.clients.opening import open_client
from evaluation.serving.endpoint import Endpoint, get_text
from evaluation.shards.shard import Line, PartFile, Shard, run_shard
from evaluation.suites.registry import find_planned, report_skip
from evaluation.suites.voc.answers import load_test
from evaluation.suites.voc.schema import build_response_format, describe_decoding
from voc.errors import EndpointError
from voc.labels.taxonomy import Taxonomy, parse_taxonomy
from voc.models.folder import digest_model
from voc.progress import Progress
from voc.prompts import PromptVariant, hash_comment_prompt, hash_prompt, render_messages
from voc.records.records import VocRecord
from voc.responses import PARSER_VERSION, parse_response
from voc.run import Run, find_model, open_run

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


SUITE = "voc"
PROMPT_TOO_LONG = "prompt_too_long"


def run_suite(arguments: argparse.Namespace) -> None:
    """Open the run and evaluate one shard."""
    run = open_run(arguments.store_uri, arguments.run_id)
    if not report_skip(run, arguments.model, SUITE):
        evaluate_voc(run, arguments.model, Shard(arguments.shard, arguments.num_shards))


def evaluate_voc(run: Run, model: str, shard: Shard) -> None:
    """Answer one shard's comments and write them.

    A comment that does not fit the model's context is an empty answer with the finish reason `prompt_too_long`, counted in
    the manifest; every other failed request ends the shard.

    Raises:
        EndpointError: If the model is not served, another one is, or a request failed for good.
    """
    taxonomy, records, data_digest = load_test(run)
    inputs = describe_inputs(run, model, shard, taxonomy, data_digest)
    items = shard.pick(records[: run.config.evaluation.voc.limit])
    ask = partial(_ask_shard, run, taxonomy, items)
    run_shard(run, model, find_planned(run.config, SUITE), shard, inputs=inputs, ask=ask, module=__name__)


def describe_inputs(run: Run, model: str, shard: Shard, taxonomy: Taxonomy, data_digest: str) -> dict[str, Any]:
    """Return what a shard's answers depend on."""
    entry, suite = find_model(run, model), run.config.evaluation.voc
    return {
        "suite": SUITE,
        "model_digest": entry.digest or digest_model(entry.uri),
        "data_digest": data_digest,
        "prompt_hash": hash_prompt(run.config.prompt.variant, taxonomy),
        "decoding": describe_decoding(suite, taxonomy),
        "parser": PARSER_VERSION,
        "limit": suite.limit,
        "shard": [shard.number, shard.count],
    }


def summarise(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a shard's manifest."""
    failures = Counter(line["failure"] for line in lines if line["failure"])
    repairs = Counter(line["repair"] for line in lines if line["repair"])
    return {
        "items": len(lines),
        "prompt_tokens": sum(line["usage"]["prompt_tokens"] for line in lines),
        "completion_tokens": sum(line["usage"]["completion_tokens"] for line in lines),
        "failures": dict(sorted(failures.items())),
        "repairs": dict(sorted(repairs.items())),
        "prompts_too_long": sum(line["finish_reason"] == PROMPT_TOO_LONG for line in lines),
    }


def make_line(record: VocRecord, prompt_hash: str, completion: Completion) -> dict[str, Any]:
    """Return the prediction line of one answer."""
    parsed = parse_response(completion.text)
    segments = None if parsed.failure else [segment.to_json() for segment in parsed.segments]
    return {
        "custom_id": record.id,
        "prompt_hash": hash_comment_prompt(prompt_hash, record.comment),
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "usage": {
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "cached_tokens": completion.cached_tokens,
        },
        "segments": segments,
        "failure": parsed.failure,
        "strict": parsed.strict,
        "repair": parsed.repair,
    }


def _ask_shard(
    run: Run, taxonomy: Taxonomy, items: Sequence[VocRecord], endpoint: Endpoint, part: PartFile
) -> tuple[list[Line], dict[str, Any]]:
    client = open_client(endpoint, concurrency=run.config.evaluation.voc.concurrency)
    counters, num_before = read_counters(endpoint), len(part.lines)
    primers = count_primers(endpoint, run.config.prompt.variant, run.config.serving.data_parallel_size)
    asyncio.run(_ask_all(run, client, taxonomy, items, part=part, primers=primers))
    by_id = {line["custom_id"]: line for line in part.lines}
    lines = [by_id[item.id] for item in items]
    return lines, {
        **summarise(lines),
        "retries": dict(sorted(client.retried.items())),
        "prefix_cache": describe_hits([line["usage"] for line in part.lines[num_before:]], primers),
        "engine_prefix_cache": describe_engine(counters, read_counters(endpoint)),
    }


async def _ask_all(
    run: Run, client: ChatClient, taxonomy: Taxonomy, items: Sequence[VocRecord], *, part: PartFile, primers: int
) -> None:
    suite, variant = run.config.evaluation.voc, run.config.prompt.variant
    response_format = build_response_format(taxonomy) if suite.structured_output else None
    prompt_hash = hash_prompt(variant, taxonomy)
    done = {line["custom_id"] for line in part.lines}
    failures = Counter(line["failure"] for line in part.lines if line["failure"])
    name = client.endpoint.model
    progress = Progress(f"voc {name}", len(items), "items")
    if done:
        progress.advance(len(done))
        print(f"voc {name}: {len(done)} of {len(items)} items were answered before", flush=True)

    async with client:

        async def ask(record: VocRecord) -> None:
            messages = render_messages(record.comment, variant, taxonomy)
            try:
                completion = await client.chat(messages, max_tokens=suite.max_tokens, response_format=response_format)
            except PromptTooLongError:
                completion = Completion("", PROMPT_TOO_LONG, 0, 0)
            line = make_line(record, prompt_hash, completion)
            part.append(line)
            failures.update([line["failure"]] if line["failure"] else [])
            progress.advance(1, failures=failures.total(), retries=client.retries)

        todo = [record for record in items if record.id not in done]
        await gather_all(ask(record) for record in todo[:primers])
        await gather_all(ask(record) for record in todo[primers:])
    progress.finish(failures=failures.total(), retries=client.retries)
