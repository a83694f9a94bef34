"""What to change when a training does not fit: cheap changes first, each with the peak that it leads to.

With it the plan as people read it (a table, the verdict, the changes) and as JSON for machines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from voc.memory.plan import (
    ALLOCATOR_SLACK_RATIO,
    CUDA_CONTEXT_BYTES,
    GIB,
    ITEMS,
    RESERVE_RATIO,
    MemoryPlan,
    TrainingSetup,
    plan_memory,
    usable_bytes,
)
from voc.models.shapes import ModelShapes
from voc.text_table import format_columns

_MAX_NODES = 128
_SHORTEST_ROW = 1024
_LEAST_GAIN_RATIO = 0.02  # of the peak: less is not worth a change
_SHORT = {
    "loss": "loss",
    "backward of the loss": "its backward",
    "backward of the last layer": "last layer",
    "backward of the first layer": "first layer",
    "gradient of the embedding": "embedding",
    "update": "update",
}


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One change, made on top of those before it.

    Attributes:
        setting: Key of the configuration.
        value: Its new value.
        price: What it costs.
        plan: The plan with this change and all before it.
    """

    setting: str
    value: Any
    price: str
    plan: MemoryPlan


@dataclass(frozen=True, slots=True)
class Advice:
    """How to make a training fit.

    Attributes:
        suggestions: Changes that lower the peak, up to the first with which it fits.
        fits: Whether it fits with all of them.
        gpus_unchanged: Least number of GPUs that fits with the settings as they are; None: not with any number tried.
        gpus_changed: The same with all suggestions, recomputation of whole layers and a reduction after every pass.
    """

    suggestions: tuple[Suggestion, ...]
    fits: bool
    gpus_unchanged: int | None
    gpus_changed: int | None


def advise(plan: MemoryPlan, memory_bytes: int, *, gpus_per_node: int) -> Advice:
    """Find what makes a plan fit.

    Args:
        plan: A plan that does not fit.
        memory_bytes: Memory of one GPU.
        gpus_per_node: GPUs come in whole nodes once one node is not enough.
    """
    suggestions: list[Suggestion] = []
    best = plan
    while not best.fits(memory_bytes):
        # A change that does nothing for the peak now may do so once another moment is the peak.
        found = _find_change(best)
        if found is None:
            break
        suggestions.append(found)
        best = found.plan
    # On several GPUs these two pay off even where they did nothing for the peak of few.
    frugal = replace(best.setup, activation_checkpointing="full", gradient_sync="every_pass")
    return Advice(
        tuple(suggestions),
        best.fits(memory_bytes),
        find_least_gpus(plan.shapes, plan.setup, memory_bytes, gpus_per_node=gpus_per_node),
        find_least_gpus(plan.shapes, frugal, memory_bytes, gpus_per_node=gpus_per_node),
    )


def find_least_gpus(shapes: ModelShapes, setup: TrainingSetup, memory_bytes: int, *, gpus_per_node: int) -> int | None:
    """Return the least number of GPUs on which a training fits: of one node, else whole nodes; None: not on 128 nodes."""
    candidates = [*range(1, gpus_per_node), *(gpus_per_node * nodes for nodes in range(1, _MAX_NODES + 1))]
    for number in candidates:
        if number % setup.experts_parallel_size:
            continue
        if plan_memory(shapes, replace(setup, num_workers=number)).fits(memory_bytes):
            return number
    return None


def _find_change(plan: MemoryPlan) -> Suggestion | None:
    """Return the cheapest change that lowers the peak noticeably."""
    for setting, value, field, price in _list_changes(plan.setup):
        changed = plan_memory(plan.shapes, replace(plan.setup, **{field: value}))
        if changed.peak.total < (1 - _LEAST_GAIN_RATIO) * plan.peak.total:
            return Suggestion(setting, value, price, changed)
    return None


def _list_changes(setup: TrainingSetup) -> Iterator[tuple[str, Any, str, str]]:
    """Yield (configuration key, value, field of the setup, price) from cheap to dear."""
    if setup.activation_checkpointing != "full":
        yield (
            "training.activation_checkpointing",
            "full",
            "activation_checkpointing",
            "about a third more computation",
        )
    if setup.micro_batch_size > 1:
        yield "training.micro_batch_size", 1, "micro_batch_size", "more and smaller passes"
    if setup.loss_kernel == "plain":
        yield "training.loss_kernel", "chunked", "loss_kernel", "nothing, for models whose logits are a plain product"
    if setup.max_seq_len >= 2 * _SHORTEST_ROW:
        yield "training.max_seq_len", setup.max_seq_len // 2, "max_seq_len", "longer samples are refused"
    if setup.gradient_sync != "every_pass":
        yield "training.gradient_sync", "every_pass", "gradient_sync", "one gradient reduction per pass"
    if setup.optimizer == "adamw" and setup.experts_parallel_size == 1:
        yield "training.optimizer.name", "adamw_8bit", "optimizer", "moments of 8 bits"
    if setup.master_dtype != "bfloat16" and setup.param_dtype == "bfloat16":
        yield "training.master_dtype", "bfloat16", "master_dtype", "updates that are rounded to 8 bits of mantissa"


def describe_plan(plan: MemoryPlan, memory_bytes: int, advice: Advice | None) -> str:
    """Return the plan as text: the table of items by moments, the verdict and what to change.

    Args:
        plan: The plan.
        memory_bytes: Memory of one GPU.
        advice: What to change; None if it fits.
    """
    setup, shapes, peak = plan.setup, plan.shapes, plan.peak
    lines = [
        f"{shapes.num_parameters / 1e9:.2f} G parameters ({shapes.num_active_parameters / 1e9:.2f} G active) "
        f"on {setup.num_workers} GPUs, passes of {setup.tokens} tokens",
        str(plan.bytes_per_parameter),
        "",
        _format_table(plan),
        "",
        f"peak {_gib(peak.total)} GiB per GPU, in the moment: {peak.name}",
        f"usable: {_gib(usable_bytes(memory_bytes))} of {_gib(memory_bytes)} GiB "
        f"({RESERVE_RATIO:.0%} stay free; context {_gib(CUDA_CONTEXT_BYTES)} GiB and {ALLOCATOR_SLACK_RATIO:.0%} allocator "
        "slack are assumptions)",
        describe_verdict(plan, memory_bytes, advice),
    ]
    return "\n".join(lines)


def describe_verdict(plan: MemoryPlan, memory_bytes: int, advice: Advice | None) -> str:
    """Say whether it fits, and if not what to change, on lines of their own."""
    free = usable_bytes(memory_bytes) - plan.peak.total
    if advice is None:
        return f"fits, with {_gib(free)} GiB to spare"
    lines = [
        f"does not fit: {_gib(-free)} GiB too much. What to change, from cheap to dear, each on top of those above:"
    ]
    for number, suggestion in enumerate(advice.suggestions, 1):
        total = suggestion.plan.peak.total
        verdict = "fits" if suggestion.plan.fits(memory_bytes) else "still too much"
        lines.append(
            f"  {number}. {suggestion.setting}: {suggestion.value} -> {_gib(total)} GiB, {verdict} (price: {suggestion.price})"
        )
    lines.append(f"  or more GPUs: {_count_gpus(advice.gpus_unchanged)} with the settings as they are")
    if not advice.fits:
        lines[-1] += f", {_count_gpus(advice.gpus_changed)} with all changes above, full recomputation and every_pass"
    return "\n".join(lines)


def plan_to_json(plan: MemoryPlan, memory_bytes: int, advice: Advice | None) -> dict[str, Any]:
    """Return the plan as values for JSON; sizes are bytes."""
    precision = plan.bytes_per_parameter
    return {
        "fits": advice is None,
        "peak_bytes": plan.peak.total,
        "peak_moment": plan.peak.name,
        "memory_bytes": memory_bytes,
        "usable_bytes": usable_bytes(memory_bytes),
        "num_gpus": plan.setup.num_workers,
        "num_parameters": plan.shapes.num_parameters,
        "bytes_per_parameter": {
            "weights": precision.weights,
            "gradients": precision.gradients,
            "optimizer": precision.optimizer,
        },
        "moments": {moment.name: moment.items for moment in plan.moments},
        "suggestions": [
            {"setting": s.setting, "value": s.value, "peak_bytes": s.plan.peak.total, "price": s.price}
            for s in (advice.suggestions if advice else ())
        ],
        "least_gpus": {"unchanged": advice.gpus_unchanged, "changed": advice.gpus_changed} if advice else None,
    }


def _format_table(plan: MemoryPlan) -> str:
    rows = [["GiB per GPU", *(_SHORT[moment.name] for moment in plan.moments)]]
    for item in ITEMS:
        sizes = [moment.items.get(item, 0) for moment in plan.moments]
        if any(sizes):
            rows.append([item, *(_gib(size) if size else "" for size in sizes)])
    peak = plan.peak
    rows.append(["total", *(f"{_gib(m.total)}{' *' if m is peak else ''}" for m in plan.moments)])
    return format_columns(rows)


def _count_gpus(number: int | None) -> str:
    return "no number is enough" if number is None else f"{number}"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"
