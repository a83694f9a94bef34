"""The VOC suite's part of the report: figures of a row, the labels one by one, what they are held against. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from evaluation.intervals import wilson_interval
from evaluation.suites.protocol import Column, ReportPart, Section, Yardstick
from evaluation.suites.voc.label_scores import AVERAGES, FIGURES, KINDS, NOTHING_MISSED
from voc.config.night import DecisionConfig, NightforgeConfig
from voc.labels.taxonomy import LEVELS

MAX_MISSED = 10
INVENTED = "invented"
CONFUSION_TITLES = {
    "same_L3": "sibling (same L3)",
    "same_L2": "same L2",
    "same_L1": "same L1",
    "elsewhere": "elsewhere",
    NOTHING_MISSED: "nothing missed",
}
SECTIONS = (Section("voc", "VOC"), Section("labels", "Labels"), Section("confusion", "Confusion"))


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


class VocReport(ReportPart):
    """Precision, recall and F1 over full label paths in the average that decides."""

    figures: ClassVar[Mapping[str, tuple[str, ...]]] = {"voc": tuple(f"voc_{name}" for name in FIGURES)}
    titles: ClassVar[Mapping[str, str]] = {"voc": "VOC"}
    example_titles: ClassVar[Mapping[str, str]] = {
        "voc_empty": "VOC: empty answer",
        "voc_not_json": "VOC: not JSON",
        "voc_truncated": "VOC: cut before its end",
        "voc_wrong_shape": "VOC: JSON of another shape",
        "voc_duplicate_keys": "VOC: the same key twice",
        "voc_not_a_number": "VOC: NaN or an infinity",
        "voc_damaged_text": "VOC: damaged text",
        "voc_too_deep": "VOC: nested too deep",
        "voc_too_long": "VOC: too long to read",
        "voc_wrong": "VOC: readable, no label right",
    }
    templates: ClassVar[Path | None] = Path(__file__).parent / "templates"
    page_values: ClassVar[Mapping[str, Any]] = {
        "averages": AVERAGES,
        "levels": LEVELS,
        "confusion_kinds": {kind: CONFUSION_TITLES[kind] for kind in (*KINDS.values(), NOTHING_MISSED)},
    }

    def build_figures(self, results: Mapping[str, Any], decision: DecisionConfig) -> dict[str, Any]:
        """Return precision, recall and F1 with the confidence of their intervals."""
        voc, average = results["voc"], decision.voc_average
        scores, intervals = voc["levels"][LEVELS[-1]][average], voc["intervals"][average]
        return {
            "confidence": voc["confidence"],
            **{
                f"voc_{name}": {
                    "value": scores[name],
                    "low": intervals[name][0],
                    "high": intervals[name][1],
                    "n": voc["num_items"],
                }
                for name in FIGURES
            },
        }

    def describe_table(self, results: Mapping[str, Any], decision: DecisionConfig) -> dict[str, Any]:
        """Return the average, the number of comments, and what memory alone reaches."""
        voc, average = results["voc"], decision.voc_average
        return {
            "voc_average": average,
            "num_comments": voc["num_items"],
            "lookup_floor": voc["lookup_floor"][average],
        }

    def list_columns(self, results: Mapping[str, Any], decision: DecisionConfig) -> Sequence[Column]:
        """Return precision, recall and F1."""
        average, titles = decision.voc_average, {"precision": "Precision", "recall": "Recall", "f1": "F1"}
        short = {"precision": "VOC P", "recall": "VOC R", "f1": f"VOC F1 ({average})"}
        return [
            Column(
                figure=f"voc_{name}",
                suite="voc",
                group="Voice of the Customer",
                title=title,
                full_title=f"VOC {title if name == 'f1' else name}",
                short_title=short[name],
                n=results["voc"]["num_items"],
                unit="comments",
                note=f"{average} average",
                is_main=name == "f1",
                has_interval=name == "f1",
            )
            for name, title in titles.items()
        ]

    def list_yardsticks(self, results: Mapping[str, Any], decision: DecisionConfig) -> Sequence[Yardstick]:
        """Return what memory alone reaches."""
        floor = results["voc"]["lookup_floor"][decision.voc_average]
        return [Yardstick("look-up floor", {f"voc_{name}": floor[name] for name in FIGURES})]

    def list_sections(self, results: Mapping[str, Mapping[str, Any]]) -> Sequence[Section]:
        """Return the figures in detail, the labels, and where wrong ones go."""
        return SECTIONS

    def build_views(self, results: Mapping[str, Mapping[str, Any]], decision: DecisionConfig) -> dict[str, Any]:
        """Return the labels one by one."""
        return {"labels": build_label_views(results, decision.confidence)}

    def write_notes(self, results: Mapping[str, Mapping[str, Any]], config: NightforgeConfig) -> list[str]:
        """Return which average it is, what the floor is, and which prompts the models got."""
        return [
            f"VOC precision, recall and F1 are {config.decision.voc_average} averages over full label paths. The other "
            "averages are below; rows from other sources can only be compared in the same average.",
            "The look-up floor predicts the majority label of every training segment that occurs word for word in a comment: "
            "what memory alone reaches.",
            *describe_prompts(config.prompt.variant, results),
        ]

    def describe_settings(self, config: NightforgeConfig) -> dict[str, Any]:
        """Return the prompt and the average that decides."""
        return {"prompt_variant": config.prompt.variant, "voc_average": config.decision.voc_average}

    def write_settings(self, config: NightforgeConfig) -> list[str]:
        """Return which prompt it was."""
        return [f"prompt {config.prompt.variant}"]


def describe_prompts(variant: str, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which prompt the models got, and which rows were asked in other words."""
    others = [r["model"]["title"] for r in results.values() if r["voc"]["prompt"]["variant"] != variant]
    if not others:
        return [f"All models got the {variant} prompt."]
    return [
        f"The models got the {variant} prompt, but {', '.join(others)} answered in an evaluation of the service's own, to "
        "other words: those rows are not comparable without that in mind."
    ]
