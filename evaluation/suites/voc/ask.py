"""Ask a served model for the segments of every test comment of one shard.

    python -m evaluation voc --store-uri URI --run-id ID --model NAME --shard 0 --num-shards 2

Reads: models.json, data/test.jsonl, data/taxonomy.csv, endpoint.json. Needs NIGHTFORGE_ENDPOINT_KEY.
Writes: evaluation/<model>/voc/shard-.../ {predictions.jsonl, manifest}: one line per item, in the order of the test set. A line
holds custom_id, prompt_hash, text, finish_reason, usage, segments, failure, strict, repair. Greedy decoding. A run that is
killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from evaluation.clients.interface import ChatClient, Completion, PromptTooLongError, gather_all
from evaluation.clients.opening import open_client
from evaluation.serving.endpoint import Endpoint
from evaluation.shards.run import Line, run_shard
from evaluation.shards.shard import PartFile, Shard
from evaluation.suites.registry import find_planned, report_skip
from evaluation.suites.voc.answers import load_test
from evaluation.suites.voc.prefix_cache import count_primers, describe_engine, describe_hits, read_counters
from evaluation.suites.voc.schema import build_response_format, describe_decoding
from voc.labels.taxonomy import Taxonomy
from voc.models.folder import digest_model
from voc.progress import Progress
from voc.prompts import hash_comment_prompt, hash_prompt, render_messages
from voc.records.records import VocRecord
from voc.responses import PARSER_VERSION, parse_response
from voc.run import Run, find_model, open_run

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
