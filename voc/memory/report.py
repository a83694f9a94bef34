"""A memory plan as a table for people and as JSON for machines."""

from __future__ import annotations

from typing import Any

from voc.memory.advice import Advice
from voc.memory.plan import (
    ALLOCATOR_SLACK_RATIO,
    CUDA_CONTEXT_BYTES,
    GIB,
    ITEMS,
    RESERVE_RATIO,
    MemoryPlan,
    usable_bytes,
)
from voc.text_table import format_columns

_SHORT = {
    "loss": "loss",
    "backward of the loss": "its backward",
    "backward of the last layer": "last layer",
    "backward of the first layer": "first layer",
    "gradient of the embedding": "embedding",
    "update": "update",
}


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
