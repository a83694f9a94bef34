"""One model's row of the study's table, made from its `results.json` alone, and the frontier of several rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.suites.voc.label_scores import FIGURES
from voc.labels.taxonomy import LEVELS

LEAF = LEVELS[-1]
READINGS = ("log_likelihood", "generative_strict", "generative_lenient", "letter_constrained")
# Which suite a figure of the row comes from: rows of different nights are compared suite by suite.
SUITE_FIGURES = {
    "voc": tuple(f"voc_{name}" for name in FIGURES),
    "mmlu_log_likelihood": ("log_likelihood",),
    "mmlu_generative": ("generative_strict", "generative_lenient", "schema_leak"),
    "mmlu_letter": ("letter_constrained",),
}


def build_row(results: Mapping[str, Any], average: str) -> dict[str, Any]:
    """Return a model's row, each figure as `{value, low, high, n}`; None where it was not measured.

    Args:
        results: What `results.json` holds.
        average: The average of the VOC figures.
    """
    model, voc, general = results["model"], results["voc"], results["general"]
    scores, intervals = voc["levels"][LEAF][average], voc["intervals"][average]
    figures = {f"voc_{name}": to_figure(scores[name], intervals[name], voc["num_items"]) for name in FIGURES}
    leak, change = general["schema_leak"], general["against_base"]  # null for what a model's kind cannot show
    return {
        **{name: model[name] for name in ("name", "role", "title")},
        "model_digest": model["digest"],
        "confidence": voc["confidence"],
        **figures,
        **{name: _accuracy(general.get(name)) for name in READINGS},
        "schema_leak": to_figure(leak["ratio"], leak["interval"], leak["n"]) if leak else None,
        **{
            name: pick(change[name], "value", "low", "high") if change else None
            for name in ("format_tax", "knowledge_change")
        },
        "below_chance": [name for name in READINGS if (general.get(name) or {}).get("below_chance")],
    }


def _accuracy(reading: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return to_figure(reading["accuracy"], reading["interval"], reading["n"]) if reading else None


def to_figure(value: float | None, interval: Sequence[float], n: int) -> dict[str, Any]:
    """Return a figure with its interval and the number of items behind it."""
    return {"value": value, "low": interval[0], "high": interval[1], "n": n}


def pick(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return some entries of a mapping."""
    return {name: values[name] for name in names}


def find_frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other one beats, from the lowest to the highest first coordinate.

    A point is beaten by one that is at least as high in both coordinates and higher in one. Of equal points the first stays.
    """
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], -points[index][1], index))
    best, kept = float("-inf"), []
    for index in order:
        if points[index][1] > best:
            kept.append(index)
            best = points[index][1]
    return kept[::-1]
