"""What the report says, as one JSON-able document: everything that was measured, and the study's table taken from it.

Reads the run's results, decision, promotion, data report, mixtures and timings; computes no figure of its own.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.report.rows import build_columns, build_row, find_frontier, judge_history, read_history
from evaluation.results.decided import Decision, read_decision, read_promotion
from evaluation.results.gathered import ModelResults, read_results
from evaluation.suites.registry import list_suites
from voc.config.night import NightforgeConfig
from voc.errors import ObjectNotFoundError
from voc.run import ModelEntry, Run, read_models
from voc.store.manifest import read_manifest

REPORT_FORMAT = "nightforge/report/2"
DATA_CARD = "data_card.html"
_SHARD = re.compile(r"([^/]+)/shard-\d+-of-\d+/manifest\.json")


def build_report(run: Run) -> dict[str, Any]:
    """Return what `report.json` holds.

    Keys: `run`, `table` (the study's rows with intervals, its columns, and what to hold the rows against), `history` (rows of
    other runs, and which are comparable), `frontier`, the views of the suites (`labels`, `slices`), `decision`, `promotion`,
    `data`, `data_card` (whether there is one), `mixtures`, `trainings`, `suites` (what they cost), `timings`, `notes`, and under
    `results` each model's `results.json`.

    Raises:
        ObjectNotFoundError: If a model has no results yet.
    """
    models = read_models(run)
    results = {model.name: read_results(run, model.name) for model in models}
    decision = read_decision(run)
    data = json.loads(run.store.read_bytes(f"{run.layout.data}/data_report.json"))
    table = build_table(run, models, results, decision)
    parts, judging = [suite.report for suite in list_suites()], run.config.decision
    history = judge_history(*read_history(run), {column["suite"] for column in table["columns"]}, judging)
    views: dict[str, Any] = {}
    for part in parts:
        views |= part.build_views(results, judging)
    return {
        "format": REPORT_FORMAT,
        "run": describe_run(run),
        "table": table,
        "history": history,
        "frontier": build_frontier(table, history["rows"]),
        **views,
        "decision": decision,
        "promotion": read_promotion(run),
        "data": data,
        "data_card": run.store.exists(f"{run.layout.data}/{DATA_CARD}"),
        "mixtures": read_mixtures(run),
        "trainings": read_trainings(run),
        "suites": read_suites(run, models),
        "timings": read_timings(run),
        "notes": write_notes(run.config, results, data),
        "results": results,
    }


def describe_run(run: Run) -> dict[str, Any]:
    """Return the settings that a reader of the figures needs; `settings` says those of the suites in words."""
    config = run.config
    described = {
        "id": run.layout.run_id,
        "name": config.name,
        "seed": config.seed,
        "base": config.model.base,
        "confidence": config.decision.confidence,
        "bootstrap_resamples": config.evaluation.bootstrap_resamples,
        "max_steps": config.training.max_steps,
        "global_batch_size": config.training.global_batch_size,
        "batch_unit": config.training.batch_unit,
        "optimizer": config.training.optimizer.model_dump(mode="json"),
        "settings": [words for suite in list_suites() for words in suite.report.write_settings(config)],
    }
    for suite in list_suites():
        described |= suite.report.describe_settings(config)
    return described


def build_table(
    run: Run, models: list[ModelEntry], results: Mapping[str, ModelResults], decision: Decision | None
) -> dict[str, Any]:
    """Return the study's table: one row per model, each figure with interval and n, with its columns and yardsticks."""
    judging, first = run.config.decision, results[models[0].name]
    verdicts = {c["name"]: c["verdict"] for c in decision["candidates"]} if decision else {}
    table: dict[str, Any] = {"confidence": judging.confidence, **build_columns(first, judging)}
    for suite in list_suites():
        table |= suite.report.describe_table(first, judging)
    rows = [{**build_row(results[model.name], judging), "verdict": verdicts.get(model.name)} for model in models]
    return table | {"rows": rows}


def list_main_figures(table: Mapping[str, Any]) -> tuple[str, str]:
    """Return the two figures that the frontier is about: those of the first two main columns."""
    first, second, *_ = (column["figure"] for column in table["columns"] if column["is_main"])
    return first, second


def build_frontier(table: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that no other row beats in both main figures, by the rising first one.

    Rows of other runs take part if both of their figures are comparable. Values decide, not intervals, so neighbours on the
    frontier may be a tie.
    """
    x, y = list_main_figures(table)
    points = [row for row in [*table["rows"], *earlier] if row[x] and row[y]]
    kept = find_frontier([(row[x]["value"], row[y]["value"]) for row in points])
    return [
        {
            "title": points[index]["title"],
            "run_ids": points[index].get("run_ids"),
            x: points[index][x],
            y: points[index][y],
        }
        for index in kept
    ]


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


def write_notes(config: NightforgeConfig, results: Mapping[str, ModelResults], data: Mapping[str, Any]) -> list[str]:
    """Return the sentences without which the table would be read wrongly: of the run, then of every suite, then what is amiss."""
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
    ]
    for suite in list_suites():
        notes += suite.report.write_notes(results, config)
    repeated = count_leaked_rows(data)
    if repeated:
        notes.append(
            f"{repeated} training comments are in the test set, word for word or nearly: VOC figures are too good by them."
        )
    cut = {r["model"]["title"]: sum(r["cut_prompts"].values()) for r in results.values()}
    if any(cut.values()):
        shown = ", ".join(f"{title} {count}" for title, count in cut.items() if count)
        notes.append(f"Prompts that did not fit the model's context (serving.max_model_len): {shown}.")
    return notes


def count_leaked_rows(data: Mapping[str, Any]) -> int:
    """Return how many training rows repeat a test row and were trained on nevertheless."""
    kinds = ("leakage_exact", "leakage_near")
    duplicates = data["duplicates"]
    found, dropped = (
        sum(counts.get(kind, 0) for counts in duplicates[part].values() for kind in kinds)
        for part in ("found", "dropped")
    )
    return int(found - dropped)


def read_suites(run: Run, models: Sequence[ModelEntry]) -> list[dict[str, Any]]:
    """Return one row per model and suite, in the order of the models; suites that no report knows by name are there too."""
    rows = []
    for model in models:
        prefix = run.layout.evaluation(model.name)
        facts: dict[str, list[Mapping[str, Any]]] = {}
        for key in run.store.list_keys(prefix):
            match = _SHARD.fullmatch(key.removeprefix(f"{prefix}/"))
            manifest = read_manifest(run.store, key.rpartition("/")[0]) if match else None
            if match and manifest:
                facts.setdefault(match[1], []).append(manifest.facts)
        rows += [{"model": model.name, "suite": suite, **add_up_shards(found)} for suite, found in facts.items()]
    return rows


def add_up_shards(shards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the facts of one suite's shards; what no shard says is None.

    Returns:
        `shards`, `items`, `resumed_items`, `wall_s` of the slowest shard, `prompt_tokens`, `completion_tokens`,
        `completion_tokens_per_s` (all tokens over the slowest shard's time; None if a shard was resumed, because then that
        time is not the whole one), `cached_prompt_ratio` (share of prompt tokens that the engine had computed before, after
        the first rows), `retries` (requests sent again, by reason), `engines`, `cached_shards` that an earlier run had
        measured, and the runs that did (`measured_in`). The costs of a cached shard are those of that run.
    """
    wall_s = max((float(facts["wall_s"]) for facts in shards if facts.get("wall_s") is not None), default=None)
    tokens, resumed = _sum(shards, "completion_tokens"), _sum(shards, "resumed_items")
    caches = [facts["prefix_cache"] for facts in shards if facts.get("prefix_cache")]
    hits = [facts["cache"] for facts in shards if (facts.get("cache") or {}).get("hit")]
    looked_up = _sum(caches, "prompt_tokens")
    return {
        "shards": len(shards),
        "items": _sum(shards, "items"),
        "resumed_items": resumed,
        "wall_s": wall_s,
        "prompt_tokens": _sum(shards, "prompt_tokens"),
        "completion_tokens": tokens,
        "completion_tokens_per_s": tokens / wall_s if tokens is not None and wall_s and not resumed else None,
        "cached_prompt_ratio": (_sum(caches, "cached_tokens") or 0) / looked_up if looked_up else None,
        "cached_shards": len(hits),
        "measured_in": sorted({str(hit["measured_in"]) for hit in hits}),
        "retries": dict(sorted(sum((Counter(facts.get("retries") or {}) for facts in shards), Counter()).items())),
        "engines": sorted({str(facts["engine"]) for facts in shards if facts.get("engine")}),
    }


def _sum(shards: Sequence[Mapping[str, Any]], name: str) -> int | None:
    values = [int(facts[name]) for facts in shards if facts.get(name) is not None]
    return sum(values) if values else None


def _read_optional(run: Run, key: str) -> Any:
    try:
        return json.loads(run.store.read_bytes(key))
    except ObjectNotFoundError:
        return None
