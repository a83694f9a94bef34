"""The rows of the table: those of this run's models, and those of other runs that may stand beside them.

A row is made of a model's `results.json` alone, by the suites. A figure of another night may be compared if its suite asked the
same: everything that a shard's manifest declares as input, the model aside, is equal (test data, prompt, decoding, parser, task).
That is judged suite by suite, so a night with other questions still lends its VOC figures. What is not comparable is listed with
its reasons and without figures.

Reads, per run: config.json, timings/gather.json, evaluation/<model>/results/results.json, one shard's manifest per suite.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.results.gathered import ModelResults, load_results
from evaluation.suites.protocol import BASE
from evaluation.suites.registry import list_suites
from voc.config.night import DecisionConfig
from voc.errors import VocError
from voc.run import Run
from voc.store.base import Store
from voc.store.layout import RunLayout
from voc.store.manifest import Manifest, read_manifest

RUNS_PREFIX = "runs"
_RESULTS = re.compile(r"runs/([^/]+)/evaluation/([^/]+)/results/manifest\.json")
_FIRST_SHARD = re.compile(r"runs/([^/]+)/evaluation/([^/]+)/([^/]+)/(shard-000-of-\d+)/manifest\.json")
# Inputs of a shard that belong to the model or to the part, not to the asking; a chat template is the model's own.
_NOT_ASKING = frozenset({"suite", "model_digest", "shard", "asked.chat_template_hash"})
_DIGEST = re.compile(r"[0-9a-f]{32,}")
_CONTEXT = "max_model_len"


def list_suite_figures() -> dict[str, tuple[str, ...]]:
    """Return which figures of a row come from which planned suite."""
    return {planned: names for suite in list_suites() for planned, names in suite.report.figures.items()}


def build_row(results: ModelResults, decision: DecisionConfig, asked: Collection[str] | None = None) -> dict[str, Any]:
    """Return a model's row: who it is, and each suite's figures as `{value, low, high, n}`; None where one was not measured.

    Args:
        results: The model's.
        decision: Names the average of the figures.
        asked: Planned suites that a run of another night had, which may be older than a suite; None: all of them.
    """
    model = results["model"]
    figures: list[dict[str, Any]] = [
        part.build_figures(results, decision)
        if asked is None or not part.figures.keys().isdisjoint(asked)
        else _leave_out(name for names in part.figures.values() for name in names)
        for part in (suite.report for suite in list_suites())
    ]
    row: dict[str, Any] = {
        "name": model["name"],
        "role": model["role"],
        "title": model["title"],
        "model_digest": model["digest"],
        "confidence": decision.confidence,
    }
    for found in figures:
        row |= found
    return row | {"below_chance": [name for found in figures for name in found.get("below_chance", ())]}


def _leave_out(figures: Iterable[str]) -> dict[str, Any]:
    return dict.fromkeys(figures)


def build_columns(results: ModelResults, decision: DecisionConfig) -> dict[str, Any]:
    """Return the `columns` of the table and the `yardsticks` below it, from one model's results."""
    parts = [suite.report for suite in list_suites()]
    return {
        "columns": [asdict(column) for part in parts for column in part.list_columns(results, decision)],
        "yardsticks": [asdict(row) for part in parts for row in part.list_yardsticks(results, decision)],
    }


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


@dataclass(frozen=True, slots=True)
class Measured:
    """One model of one run, as far as a row needs it.

    Attributes:
        run_id: The run.
        model: The model's name in the run.
        started_at: When the run's results were gathered, ISO 8601; empty if unknown.
        results: What `results.json` holds; None if it cannot be read.
        asking: Per suite, what its shards declare.
        problem: Why there are no results.
    """

    run_id: str
    model: str
    started_at: str
    results: ModelResults | None
    asking: Mapping[str, Mapping[str, Any]]
    problem: str = ""


def read_history(run: Run) -> tuple[list[Measured], list[Measured]]:
    """Return what this run measured, and what all others did, newest first; one that cannot be read is listed, not fatal."""
    found: list[tuple[str, str]] = []
    shards: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for key in run.store.list_keys(RUNS_PREFIX):
        if match := _RESULTS.fullmatch(key):
            found.append((match[1], match[2]))
        elif match := _FIRST_SHARD.fullmatch(key):
            shards.setdefault((match[1], match[2]), []).append((match[3], match[4]))
    started = {run_id: _read_start(run.store, run_id) for run_id, _ in found}
    rows = [_read_model(run.store, *place, started[place[0]], shards.get(place, ())) for place in found]
    rows.sort(key=lambda row: (row.started_at, row.run_id), reverse=True)
    mine = run.layout.run_id
    return [row for row in rows if row.run_id == mine], [row for row in rows if row.run_id != mine]


def _read_start(store: Store, run_id: str) -> str:
    try:
        return str(json.loads(store.read_bytes(f"{RunLayout(run_id).timings}/gather.json"))["started_at"])
    except (VocError, ValueError, KeyError, TypeError):
        return ""


def _read_model(store: Store, run_id: str, model: str, started_at: str, shards: Iterable[tuple[str, str]]) -> Measured:
    layout = RunLayout(run_id)
    try:
        results = load_results(store, layout, model)
        cut = results.get("cut_prompts", {})
        asking = {}
        for suite, folder in shards:
            manifest = read_manifest(store, f"{layout.evaluation(model)}/{suite}/{folder}")
            if manifest:
                asking[suite] = describe_asking(manifest, int(cut.get(suite, 0)))
    except (VocError, ValueError, AttributeError, TypeError) as error:
        return Measured(run_id, model, started_at, None, {}, f"cannot be read: {error}")
    return Measured(run_id, model, started_at, results, asking)


def describe_asking(manifest: Manifest, num_cut: int) -> dict[str, Any]:
    """Return what a shard's manifest says about how it asked and scored, nested settings under dotted names.

    How long a context may be matters only where a prompt did not fit.
    """
    flat: dict[str, Any] = {"scoring": manifest.facts["scoring"]} if "scoring" in manifest.facts else {}
    for name, value in manifest.inputs.items():
        entries = (
            {f"{name}.{key}": entry for key, entry in value.items()} if isinstance(value, Mapping) else {name: value}
        )
        flat |= {key: entry for key, entry in entries.items() if key not in _NOT_ASKING}
    if num_cut == 0:
        flat.pop(_CONTEXT, None)
    return flat


def explain_differences(here: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> list[str]:
    """Return in what two suites were asked differently, as sentences; none if they were asked the same."""
    if here is None or there is None:
        return ["not measured here" if here is None else "not measured there"]
    if not here or not there:
        return ["how it was asked is not declared"]
    return [
        _explain(name.replace("_", " "), here.get(name), there.get(name))
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def _explain(name: str, here: Any, there: Any) -> str:
    if any(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (here, there)):
        return f"another {name}"
    shown = ["not declared" if value is None else str(value)[:60] for value in (there, here)]
    return f"{name}: {shown[0]} there, {shown[1]} here"


def judge_history(
    mine: Sequence[Measured], others: Sequence[Measured], shown: Collection[str], decision: DecisionConfig
) -> dict[str, Any]:
    """Tell which figures of other runs may be compared with this run's.

    Args:
        mine: Models of this run.
        others: Models of all others, the newest first.
        shown: Suites that the table has a column of: a row without any of their figures is not shown.
        decision: Names the average of the figures.

    Returns:
        `rows`: comparable rows, newest first, as `build_row` plus `run_ids` (equal figures of the same weights are one row),
        `started_at` and `reasons` per suite whose figures are left out (None in the row); `not_comparable`: models without any
        comparable figure with their reasons; `repeated`: per model of this run, the other runs with the very same figures.
    """
    # The base is asked everything; a model that others serve may have fewer suites, or other words.
    here = next((row.asking for row in mine if row.model == BASE), {})
    own = {_identify(build_row(row.results, decision)): row.model for row in mine if row.results}
    rows: dict[Any, dict[str, Any]] = {}
    refused: list[dict[str, Any]] = []
    repeated: dict[str, list[str]] = {}
    for other in others:
        row, reasons = _judge(other, here, shown, decision)
        place = {"run_id": other.run_id, "name": other.model, "started_at": other.started_at}
        if row is None:
            refused.append({**place, "reasons": reasons})
        elif (identity := _identify(row)) in own:
            repeated.setdefault(own[identity], []).append(other.run_id)
        elif identity in rows:
            rows[identity]["run_ids"].append(other.run_id)
        else:
            rows[identity] = {**row, "run_ids": [other.run_id], "started_at": other.started_at, "reasons": reasons}
    return {"rows": list(rows.values()), "not_comparable": refused, "repeated": repeated}


def _judge(
    other: Measured, here: Mapping[str, Any], shown: Collection[str], decision: DecisionConfig
) -> tuple[dict[str, Any] | None, dict[str, list[str]]]:
    if other.results is None:
        return None, {"results": [other.problem]}
    try:
        row = build_row(other.results, decision, other.asking)
    except (KeyError, TypeError, IndexError) as error:
        return None, {"results": [f"of another format, without {error}"]}
    figures = list_suite_figures()
    suites = [suite for suite in figures if suite in here or suite in other.asking]
    reasons = {suite: explain_differences(here.get(suite), other.asking.get(suite)) for suite in suites}
    reasons = {suite: found for suite, found in reasons.items() if found}
    if all(suite in reasons for suite in suites if suite in shown):  # nothing of the table is left
        return None, reasons or {"results": ["no suite declares how it asked"]}
    for suite in reasons:
        row |= _leave_out(figures[suite])
    row["below_chance"] = [name for name in row["below_chance"] if row[name]]
    return row, reasons


def _identify(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two rows have in common that are the same weights with the same figures."""
    names = [name for figures in list_suite_figures().values() for name in figures]
    return row["model_digest"], *(None if row[name] is None else row[name]["value"] for name in names)
