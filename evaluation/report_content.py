"""What the report says, as one JSON-able document: everything that was measured, and the study's table taken from it.

Reads the run's results, decision, promotion, data report, mixtures and timings; computes no figure of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evaluation.decide import read_decision, read_results
from evaluation.metrics import FIGURES
from evaluation.promote import read_promotion
from voc.errors import ObjectNotFoundError
from voc.manifest import read_manifest
from voc.run import ModelEntry, Run, read_models
from voc.taxonomy import LEVELS

REPORT_FORMAT = "nightforge/report/1"
LEAF = LEVELS[-1]


def build_report(run: Run) -> dict[str, Any]:
    """Return what `report.json` holds.

    Keys: `run`, `table` (the study's rows with intervals, and what to hold them against), `slices`, `decision`,
    `promotion`, `data`, `mixtures`, `trainings`, `timings`, `notes`, and under `results` each model's whole `results.json`.

    Raises:
        ObjectNotFoundError: If a model has no results yet.
    """
    models = read_models(run)
    results = {model.name: read_results(run, model.name) for model in models}
    decision = read_decision(run)
    data = json.loads(run.store.read_bytes(f"{run.layout.data}/data_report.json"))
    return {
        "format": REPORT_FORMAT,
        "run": describe_run(run),
        "table": build_table(run, models, results, decision),
        "slices": build_slices(models, results),
        "decision": decision,
        "promotion": read_promotion(run),
        "data": data,
        "mixtures": read_mixtures(run),
        "trainings": read_trainings(run),
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
    """Return the study's table: one row per model, each figure as `{value, low, high}`, with floor and chance beside.

    A figure that a model's kind cannot show is null.
    """
    average = run.config.decision.voc_average
    verdicts = {c["name"]: c["verdict"] for c in decision["candidates"]} if decision else {}
    rows = [_build_row(model, results[model.name], average, verdicts.get(model.name)) for model in models]
    first = results[models[0].name]
    return {
        "voc_average": average,
        "confidence": run.config.decision.confidence,
        "num_comments": first["voc"]["num_items"],
        "num_questions": first["general"]["generative_strict"]["n"],
        "lookup_floor": first["voc"]["lookup_floor"][average],
        "chance": first["general"]["chance"],
        "rows": rows,
    }


def _build_row(model: ModelEntry, results: dict[str, Any], average: str, verdict: str | None) -> dict[str, Any]:
    voc, general = results["voc"], results["general"]
    scores, intervals = voc["levels"][LEAF][average], voc["intervals"][average]
    figures: dict[str, dict[str, float] | None] = {
        f"voc_{name}": _figure(scores[name], intervals[name]) for name in FIGURES
    }
    readings = {name: general[name] for name in ("log_likelihood", "generative_strict", "generative_lenient")}
    for name, reading in readings.items():
        figures[name] = _figure(reading["accuracy"], reading["interval"]) if reading else None
    leak, change = general["schema_leak"], general["against_base"]
    return {
        "name": model.name,
        "role": model.role,
        "title": model.title,
        "verdict": verdict,
        **figures,
        "schema_leak": _figure(leak["ratio"], leak["interval"]) if leak else None,
        **{
            name: {bound: change[name][bound] for bound in ("value", "low", "high")} if change else None
            for name in ("format_tax", "knowledge_change")
        },
        "below_chance": [
            name
            for name in ("log_likelihood", "generative_strict")
            if readings[name] and readings[name]["below_chance"]
        ],
    }


def _figure(value: float, interval: list[float]) -> dict[str, float]:
    return {"value": value, "low": interval[0], "high": interval[1]}


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
                    "log_likelihood": _figure(known["accuracy"], known["interval"]),
                    "generative_strict": _figure(written["accuracy"], written["interval"]),
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


def write_notes(run: Run, results: dict[str, dict[str, Any]], data: dict[str, Any]) -> list[str]:
    """Return the sentences without which the table would be read wrongly."""
    config = run.config
    optimizer = config.training.optimizer
    rates = f"AdamW {optimizer.learning_rate:g}"
    if optimizer.name == "muon":
        rates = f"Muon {optimizer.muon_learning_rate:g} on the matrices, AdamW {optimizer.learning_rate:g} on the rest"
    notes = [
        "How far a model that is tuned on customer data alone collapses depends on optimizer and learning rate, not on the "
        f"data alone: here {rates}, {config.training.max_steps} steps of {config.training.global_batch_size} "
        f"{config.training.batch_unit}. Other rates give other tables.",
        f"This is one run with one seed ({config.seed}). The spread over seeds can be larger than the intervals, which only "
        "say what other test items would change: do not quote a single seed as the number.",
        f"VOC precision, recall and F1 are {config.decision.voc_average} averages over full label paths. The other averages "
        "are below; rows from other sources can only be compared in the same average.",
        "Log-likelihood asks which letter is most likely and cannot see a lost answer format; the generative protocol wants "
        "the closing sentence word for word and cannot tell a lost format from lost knowledge. Their difference against the "
        "base is the format tax.",
        "The look-up floor predicts the majority label of every training segment that occurs word for word in a comment: "
        "what memory alone reaches.",
        *describe_prompts(config.prompt.variant, results),
    ]
    repeated = count_leaked_rows(data)
    if repeated:
        notes.append(
            f"{repeated} training comments are in the test set, word for word or nearly: VOC figures are too good by them."
        )
    cut = {r["model"]["title"]: sum(r["cut_prompts"].values()) for r in results.values()}
    if any(cut.values()):
        shown = ", ".join(f"{title} {count}" for title, count in cut.items() if count)
        notes.append(f"Prompts that did not fit the model's context (serving.max_model_len): {shown}.")
    written = {r["model"]["title"]: r["general"]["generative_strict"] for r in results.values()}
    below = [title for title, reading in written.items() if reading and reading["below_chance"]]
    if below:
        notes.append(
            f"Below chance in the generative protocol: {', '.join(below)}. Guessing would do better, so this is a failure of "
            "form; read it together with the log-likelihood and the schema-leak rate."
        )
    return notes


def describe_prompts(variant: str, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which prompt the models got, and which rows were asked in other words."""
    others = [r["model"]["title"] for r in results.values() if r["voc"]["prompt"]["variant"] != variant]
    if not others:
        return [f"All models got the {variant} prompt."]
    return [
        f"The models got the {variant} prompt, but {', '.join(others)} answered in an evaluation of the service's own, to "
        "other words: those rows are not comparable without that in mind."
    ]


def count_leaked_rows(data: Mapping[str, Any]) -> int:
    """Return how many training rows repeat a test row and were trained on nevertheless."""
    kinds = ("leakage_exact", "leakage_near")
    duplicates = data["duplicates"]
    found, dropped = (
        sum(counts.get(kind, 0) for counts in duplicates[part].values() for kind in kinds)
        for part in ("found", "dropped")
    )
    return int(found - dropped)
