"""The figures of a training: one line per optimizer step, and their summary.

Where rows are held out, a line of step 0 comes first: the model before training, evaluated and not trained. Evaluations lie
in the line of the step after which they were made, under `validation`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

METRICS_NAME = "metrics.jsonl"
StepFigures = dict[str, Any]


def write_metrics(path: Path, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Write one line per optimizer step, and that of step 0."""
    path.write_text("".join(json.dumps(line) + "\n" for line in metrics))


def read_metrics(path: Path) -> list[StepFigures]:
    """Read what `write_metrics` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def list_steps(metrics: Sequence[StepFigures]) -> list[StepFigures]:
    """Return the lines of optimizer steps."""
    return [line for line in metrics if line["step"]]


def count_steps(metrics: Sequence[StepFigures]) -> int:
    """Return how many optimizer steps were made."""
    return int(metrics[-1]["step"]) if metrics else 0


def summarise(metrics: Sequence[StepFigures]) -> dict[str, Any]:
    """Return the figures of a finished training that tables show.

    Where rows were held out, `validation` has their losses after the last step and `validation_before` those before the first.
    """
    steps = list_steps(metrics)
    step_wall_s = sum(line["wall_s"] for line in steps)
    tokens = sum(line["tokens"] for line in steps)
    facts: dict[str, Any] = {
        "steps": len(steps),
        "stopped_by": steps[-1]["stopped_by"],
        "final_loss": steps[-1]["loss"],
        "tokens": tokens,
        "labelled_tokens": sum(line["labelled_tokens"] for line in steps),
        "step_wall_s": round(step_wall_s, 3),
        "tokens_per_s": round(tokens / step_wall_s, 1),
    }
    if any("spike" in line for line in steps):
        facts["spikes"] = sum(line.get("spike", 0) for line in steps)
        facts["skipped"] = sum(line.get("skipped", 0) for line in steps)
    evaluated = [line for line in metrics if "validation" in line]
    if evaluated:
        facts["validation_before"], facts["validation"] = evaluated[0]["validation"], evaluated[-1]["validation"]
        facts["validation_s"] = round(sum(line["validation_s"] for line in evaluated), 3)
    return facts
