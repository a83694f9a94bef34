"""How every suite runs a shard: nothing if it is finished, a copy if the same was measured before, else asked and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evaluation.serving.endpoint import Endpoint, find_served_model
from evaluation.shards.cache import ResultCache, digest_code
from evaluation.shards.shard import PartFile, Shard, finish_shard, say_if_finished
from evaluation.suites.protocol import PlannedSuite
from voc.run import Run

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
