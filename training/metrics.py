"""The figures of a training: one line per optimizer step, and their summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

METRICS_NAME = "metrics.jsonl"
StepFigures = dict[str, Any]


def write_metrics(path: Path, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Write one line per optimizer step."""
    path.write_text("".join(json.dumps(line) + "\n" for line in metrics))


def read_metrics(path: Path) -> list[StepFigures]:
    """Read what `write_metrics` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def summarise(metrics: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of a finished training that tables show."""
    step_wall_s = sum(line["wall_s"] for line in metrics)
    tokens = sum(line["tokens"] for line in metrics)
    return {
        "steps": len(metrics),
        "final_loss": metrics[-1]["loss"],
        "tokens": tokens,
        "labelled_tokens": sum(line["labelled_tokens"] for line in metrics),
        "step_wall_s": round(step_wall_s, 3),
        "tokens_per_s": round(tokens / step_wall_s, 1),
    }
