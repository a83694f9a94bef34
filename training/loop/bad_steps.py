"""The samples of a step that went wrong, by the names that their owners know: source and record id.

Writes `bad_steps.jsonl` in the arm's folder, a line per step: step, fault, action, loss, grad_norm, samples. A step that is made
again after a resume replaces its line.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch.distributed as dist

from corpus.mixing.samples import Sample
from corpus.parts.part_files import read_row_ids
from training.engine.process_group import Ranks
from training.job import TrainingJob
from voc.errors import VocError

_MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class BadStep:
    """A step out of line.

    Attributes:
        step: Its number, from 1.
        fault: `not_finite` or `spike`.
        action: What was done: `stop`, `skip` or `report`.
        loss: Its loss.
        grad_norm: The norm of its gradients.
    """

    step: int
    fault: str
    action: str
    loss: float
    grad_norm: float


def record_bad_step(job: TrainingJob, ranks: Ranks, bad: BadStep, samples: Sequence[Sample]) -> str:
    """Write a step's samples down; called by all ranks together, so that none ends the job before it is written.

    Returns:
        The first samples by name and where all of them are, the same on all ranks.
    """
    text: list[str | None] = [None]
    if ranks.is_first:
        named, problem = name_samples(job, samples)
        key = job.run.layout.bad_steps(job.arm)
        _add_line(job, key, _to_json(bad) | {"samples": named})
        shown = ", ".join(format_name(sample) for sample in named[:_MAX_NAMED])
        more = f" and {len(named) - _MAX_NAMED} more" if len(named) > _MAX_NAMED else ""
        text[0] = f"{shown}{more} (all {len(named)} in {job.run.store.uri}/{key}{problem})"
    dist.broadcast_object_list(text, 0)
    return str(text[0])


def name_samples(job: TrainingJob, samples: Sequence[Sample]) -> tuple[list[dict[str, Any]], str]:
    """Return source, category, row (from 0) and record id of each sample, and what kept ids from being read.

    General rows have no ids, theirs is None.
    """
    strata = [job.plan.shares[sample.share].stratum for sample in samples]
    wanted = defaultdict(set)
    for stratum, sample in zip(strata, samples, strict=True):
        wanted[stratum.source].add(sample.source_row)
    ids: dict[tuple[str, int], str] = {}
    problem = ""
    try:
        ids = read_row_ids(job.run.store, job.run.layout.data, job.data, wanted)
    except (VocError, OSError, ValueError) as error:  # the step's fault must not be hidden behind another
        problem = f"; the ids could not be read: {error}"
    named = [
        {
            "source": stratum.source,
            "category": stratum.category,
            "row": sample.source_row,
            "id": ids.get((stratum.source, sample.source_row)) or None,
        }
        for stratum, sample in zip(strata, samples, strict=True)
    ]
    return named, problem


def format_name(sample: dict[str, Any]) -> str:
    """Return a sample's name: its source and id, or the number of its row (from 1, as `training show` has it)."""
    if sample["id"]:
        return f"{sample['source']} {sample['id']}"
    return f"{sample['source']} row {sample['row'] + 1}"


def _to_json(bad: BadStep) -> dict[str, Any]:
    # JSON has no NaN.
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(bad).items()}


def _add_line(job: TrainingJob, key: str, line: dict[str, Any]) -> None:
    store = job.run.store
    lines = [json.loads(row) for row in store.read_bytes(key).splitlines()] if store.exists(key) else []
    kept = sorted([*(old for old in lines if old["step"] != line["step"]), line], key=lambda entry: entry["step"])
    store.write_bytes(key, "".join(json.dumps(entry) + "\n" for entry in kept).encode())
