"""The labels one by one: all of the test set, those that a model misses most, those it invented. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.intervals import wilson_interval

MAX_MISSED = 10
INVENTED = "invented"


def list_labels(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per label of the taxonomy that the test set has, the most frequent in training first.

    Returns:
        Rows of `label`, `bucket`, `training_support`, `support`, and under `models` per model `{f1, true_positive, predicted}`.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for model, result in results.items():
        for entry in result["voc"]["labels"]:
            if not entry["support"] or entry["bucket"] == INVENTED:
                continue
            row = rows.setdefault(
                tuple(entry["label"]),
                {**{name: entry[name] for name in ("label", "bucket", "training_support", "support")}, "models": {}},
            )
            row["models"][model] = {name: entry[name] for name in ("f1", "true_positive", "predicted")}
    return sorted(rows.values(), key=lambda row: (-row["training_support"], -row["support"], row["label"]))


def list_missed(labels: Sequence[Mapping[str, Any]], confidence: float) -> list[dict[str, Any]]:
    """Return the labels that one model misses in the most comments, with the recall's Wilson interval."""
    found = []
    for entry in labels:
        support, hits = entry["support"], entry["true_positive"]
        if support > hits:
            interval = wilson_interval(hits, support, confidence)
            recall = {"value": hits / support, "low": interval.low, "high": interval.high, "n": support}
            found.append({**entry, "missed": support - hits, "recall": recall})
    return sorted(found, key=lambda row: (-row["missed"], row["training_support"], row["label"]))[:MAX_MISSED]


def list_invented(labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many labels a model invented that the taxonomy does not have, and the most frequent ones."""
    found = [entry for entry in labels if entry["bucket"] == INVENTED]
    ordered = sorted(found, key=lambda entry: (-entry["predicted"], entry["label"]))
    return {"count": len(found), "most": [{"label": e["label"], "predicted": e["predicted"]} for e in ordered[:3]]}


def build_label_views(results: Mapping[str, Mapping[str, Any]], confidence: float) -> dict[str, Any]:
    """Return `all`, and per model `missed` and `invented`; of results without rows per label, nothing of theirs."""
    known = {model: result for model, result in results.items() if result["voc"].get("labels") is not None}
    return {
        "all": list_labels(known),
        "missed": {model: list_missed(result["voc"]["labels"], confidence) for model, result in known.items()},
        "invented": {model: list_invented(result["voc"]["labels"]) for model, result in known.items()},
    }
