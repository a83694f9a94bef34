"""What to change when a training does not fit: cheap changes first, each with the peak that it leads to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from voc.memory.plan import MemoryPlan, plan_memory
from voc.memory.setup import TrainingSetup
from voc.models.shapes import ModelShapes

_MAX_NODES = 128
_SHORTEST_ROW = 1024
_LEAST_GAIN_RATIO = 0.02  # of the peak: less is not worth a change


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
