"""What the report says, as one JSON-able document: everything that was measured, and the study's table taken from it.

Reads the run's results, decision, promotion, data report, mixtures and timings; computes no figure of its own.
"""

from __future__ import annotations

import json
from typing import Any

from evaluation.report.history import judge_history, read_history
from evaluation.report.labels import build_label_views
from evaluation.report.notes import write_notes
from evaluation.report.rows import build_row, find_frontier, to_figure
from evaluation.report.suites import read_suites
from evaluation.results.decided import read_decision, read_promotion
from evaluation.results.gathered import read_results
from voc.errors import ObjectNotFoundError
from voc.run import ModelEntry, Run, read_models
from voc.store.manifest import read_manifest

REPORT_FORMAT = "nightforge/report/2"
DATA_CARD = "data_card.html"


def build_report(run: Run) -> dict[str, Any]:
    """Return what `report.json` holds.

    Keys: `run`, `table` (the study's rows with intervals, and what to hold them against), `history` (rows of other runs, and
    which are comparable), `frontier`, `slices`, `labels`, `decision`, `promotion`, `data`, `data_card` (whether there is one),
    `mixtures`, `trainings`, `suites` (what they cost), `timings`, `notes`, and under `results` each model's `results.json`.

    Raises:
        ObjectNotFoundError: If a model has no results yet.
    """
    models = read_models(run)
    results = {model.name: read_results(run, model.name) for model in models}
    decision = read_decision(run)
    data = json.loads(run.store.read_bytes(f"{run.layout.data}/data_report.json"))
    table = build_table(run, models, results, decision)
    history = judge_history(*read_history(run), table["voc_average"])
    return {
        "format": REPORT_FORMAT,
        "run": describe_run(run),
        "table": table,
        "history": history,
        "frontier": build_frontier(table["rows"], history["rows"]),
        "slices": build_slices(models, results),
        "labels": build_label_views(results, table["confidence"]),
        "decision": decision,
        "promotion": read_promotion(run),
        "data": data,
        "data_card": run.store.exists(f"{run.layout.data}/{DATA_CARD}"),
        "mixtures": read_mixtures(run),
        "trainings": read_trainings(run),
        "suites": read_suites(run, models),
        "timings": read_timings(run),
        "notes": write_notes(run, results, data),
        "results": results,
    }


def describe_run(run: Run) -> dict[str, Any]:
    """Return the settings that a reader of the figures needs."""
    config = run.config
    return {
        "id": run.layout.run_id,
        "name": config.name,
        "seed": config.seed,
        "base": config.model.base,
        "prompt_variant": config.prompt.variant,
        "voc_average": config.decision.voc_average,
        "confidence": config.decision.confidence,
        "bootstrap_resamples": config.evaluation.bootstrap_resamples,
        "mmlu_dataset": config.evaluation.mmlu.dataset,
        "mmlu_num_fewshot": config.evaluation.mmlu.num_fewshot,
        "max_steps": config.training.max_steps,
        "global_batch_size": config.training.global_batch_size,
        "batch_unit": config.training.batch_unit,
        "optimizer": config.training.optimizer.model_dump(mode="json"),
    }


def build_table(
    run: Run, models: list[ModelEntry], results: dict[str, dict[str, Any]], decision: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the study's table: one row per model, each figure with interval and n, with floor and chance beside."""
    average = run.config.decision.voc_average
    verdicts = {c["name"]: c["verdict"] for c in decision["candidates"]} if decision else {}
    first = results[models[0].name]
    return {
        "voc_average": average,
        "confidence": run.config.decision.confidence,
        "num_comments": first["voc"]["num_items"],
        "num_questions": first["general"]["generative_strict"]["n"],
        "lookup_floor": first["voc"]["lookup_floor"][average],
        "chance": first["general"]["chance"],
        "rows": [{**build_row(results[model.name], average), "verdict": verdicts.get(model.name)} for model in models],
    }


def build_frontier(rows: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that no other row beats in both VOC F1 and strict generative accuracy, by rising VOC F1.

    Rows of other runs take part if both of their figures are comparable. Values decide, not intervals, so neighbours on the
    frontier may be a tie.
    """
    points = [row for row in [*rows, *earlier] if row["voc_f1"] and row["generative_strict"]]
    kept = find_frontier([(row["voc_f1"]["value"], row["generative_strict"]["value"]) for row in points])
    return [
        {
            "title": points[index]["title"],
            "run_ids": points[index].get("run_ids"),
            "voc_f1": points[index]["voc_f1"],
            "generative_strict": points[index]["generative_strict"],
        }
        for index in kept
    ]


def build_slices(models: list[ModelEntry], results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per model and slice of the questions, both protocols side by side; none without slices."""
    rows = []
    for model in models:
        general = results[model.name]["general"]
        if general["log_likelihood"] is None:  # of an external model
            continue
        for name, known in general["log_likelihood"]["slices"].items():
            written = general["generative_strict"]["slices"][name]
            rows.append(
                {
                    "slice": name,
                    "model": model.name,
                    "title": model.title,
                    "n": known["n"],
                    "log_likelihood": to_figure(known["accuracy"], known["interval"], known["n"]),
                    "generative_strict": to_figure(written["accuracy"], written["interval"], written["n"]),
                }
            )
    return rows


def read_mixtures(run: Run) -> list[dict[str, Any]]:
    """Return what each arm drew from each source; `mixture` is null for an arm that was not planned."""
    return [
        {"name": arm.name, "title": arm.title, "mixture": _read_optional(run, run.layout.mixture(arm.name))}
        for arm in run.config.arms
    ]


def read_trainings(run: Run) -> list[dict[str, Any]]:
    """Return how each trained arm ended, and what it lost on held-out rows before and after, per source and category."""
    rows = []
    for arm in run.config.arms:
        manifest = read_manifest(run.store, run.layout.training(arm.name))
        if manifest is None:
            continue
        before, after = (manifest.facts.get(key) or {} for key in ("validation_before", "validation"))
        rows.append(
            {
                "name": arm.name,
                "title": arm.title,
                "steps": manifest.facts["steps"],
                "stopped_by": manifest.facts.get("stopped_by"),
                "held_out": [
                    {"stratum": name, "before": before["strata"][name], "after": loss}
                    for name, loss in after.get("strata", {}).items()
                ],
            }
        )
    return rows


def read_timings(run: Run) -> list[dict[str, Any]]:
    """Return the wall time of every finished stage but the report's own, in the order in which they started."""
    keys = [key for key in run.store.list_keys(run.layout.timings) if not key.endswith("/report.json")]
    found: list[dict[str, Any]] = [json.loads(run.store.read_bytes(key)) for key in keys]
    return sorted(found, key=lambda timing: (timing["started_at"], timing["stage"]))


def _read_optional(run: Run, key: str) -> Any:
    try:
        return json.loads(run.store.read_bytes(key))
    except ObjectNotFoundError:
        return None
