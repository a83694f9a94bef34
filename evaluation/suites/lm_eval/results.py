"""Figures of further lm-eval tasks: shards merged, every model on the same questions, compared with the base. Pure.

A metric is merged by what its questions say, so that any number of shards gives the figure that lm-eval gives in one piece:
numbers by their mean; lists of true and false (IFEval's instructions of one prompt) by the mean over all of their entries.
Another kind of aggregation (a corpus measure) can only be taken over from a task that was asked in one piece.

Source: Zhou et al., 2023, Instruction-Following Evaluation for Large Language Models (prompt and instruction level).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.intervals import Bootstrap, draw_weights, paired_share_difference, percentile_interval, wilson_interval
from evaluation.shards.coverage import list_coverage_problems
from evaluation.suites.lm_eval.scoring import list_scoring_problems
from evaluation.suites.lm_eval.tasks import make_id
from voc.config.night import LmEvalTaskConfig
from voc.store.manifest import Manifest

MEAN = "mean"
OVERALL = "all"
Line = Mapping[str, Any]


def list_task_problems(
    suite: str, num_docs: Mapping[str, int], lines: Mapping[str, Sequence[Line]], base: str
) -> list[str]:
    """Return what is wrong with the answers of all models to one task: missing, repeated, foreign, other prompts.

    Args:
        suite: Name for the messages.
        num_docs: Questions per lm-eval task.
        lines: Lines per model.
        base: The model whose prompts all others must have been asked with.
    """
    hashes = {line["custom_id"]: str(line["prompt_hash"]) for line in lines[base]}
    expected = {
        name: hashes.get(name, "") for task, num in num_docs.items() for name in (make_id(task, i) for i in range(num))
    }
    problems = [
        f"{model}, {problem}"
        for model, found in lines.items()
        for problem in list_coverage_problems(suite, expected, found)
    ]
    scored = {model: [str(line["scoring"]) for line in found if "scoring" in line] for model, found in lines.items()}
    return problems + list_scoring_problems(scored, suite, "scoring of the task, or evaluation.mmlu.scoring,")


def measure_task(
    lines: Sequence[Line],
    base: Sequence[Line],
    aggregation: Mapping[str, Mapping[str, str]],
    whole: Mapping[str, Mapping[str, Any]] | None,
    bootstrap: Bootstrap,
) -> dict[str, dict[str, Any]]:
    """Compute the figures of one model.

    Args:
        lines: Its lines, of all shards.
        base: The base's.
        aggregation: Per lm-eval task and metric, the name of its aggregation.
        whole: lm-eval's own figures if there was one shard, else None.
        bootstrap: How intervals are made; shares of questions need the confidence only.

    Returns:
        Per lm-eval task (and `all`, if there are several) and `metric,filter`: value, low, high, n; `against_base` with
        the paired difference where every question is right or wrong; a reason in place of the value where shards cannot
        be merged.
    """
    figures: dict[str, dict[str, Any]] = {}
    names = list(dict.fromkeys(str(line["task"]) for line in lines))
    for name in [*names, *([OVERALL] if len(names) > 1 else [])]:
        mine, other = _values(lines, name), _values(base, name)
        figures[name] = {}
        for key, values in mine.items():
            metric = key.partition(",")[0]
            functions = {aggregation[task].get(metric, MEAN) for task in (names if name == OVERALL else [name])}
            if is_mergeable(values, functions):
                figures[name][key] = summarise_values(values, bootstrap)
                if all(isinstance(v, int | float) and v in (0, 1) for v in [*values, *other.get(key, [0.5])]):
                    pair = [bool(v) for v in values], [bool(v) for v in other[key]]
                    figures[name][key]["against_base"] = paired_share_difference(*pair, bootstrap.confidence).to_json()
            else:
                taken = (whole or {}).get(name, {}).get(key)
                reason = f"{', '.join(sorted(functions))} cannot be merged over shards: set shards to 1"
                figures[name][key] = {"value": taken, "n": len(values)} | (
                    {} if taken is not None else {"reason": reason}
                )
    return figures


def is_mergeable(values: Sequence[Any], functions: set[str]) -> bool:
    """Tell whether values of single questions make the figure of all."""
    if all(isinstance(value, list) and all(isinstance(entry, bool) for entry in value) for value in values):
        return True
    return functions == {MEAN} and all(isinstance(value, int | float) for value in values)


def summarise_values(values: Sequence[Any], bootstrap: Bootstrap) -> dict[str, Any]:
    """Return mean, interval and number of questions.

    Shares of questions have Wilson's interval. Other numbers, and entries of lists, have that of a bootstrap over questions:
    the entries of one question are not independent.
    """
    if all(not isinstance(value, list) and value in (0, 1) for value in values):
        right = int(sum(values))
        interval = wilson_interval(right, len(values), bootstrap.confidence)
        return {"value": right / len(values), "low": interval.low, "high": interval.high, "n": len(values)}
    sums_N = np.array([float(np.sum(value)) for value in values])  # noqa: N806 - a shape suffix
    counts_N = np.array([len(value) if isinstance(value, list) else 1 for value in values], dtype=float)  # noqa: N806
    if not counts_N.sum():
        return {"value": None, "n": 0}
    draws = draw_weights(len(values), bootstrap.num_resamples, bootstrap.seed)
    resampled_B = np.array([(w @ sums_N) / max(w @ counts_N, 1.0) for w in draws])  # noqa: N806
    interval = percentile_interval(resampled_B, bootstrap.confidence)
    value = float(sums_N.sum() / counts_N.sum())
    return {"value": value, "low": interval.low, "high": interval.high, "n": len(values)}


def _values(lines: Sequence[Line], task: str) -> dict[str, list[Any]]:
    """Return the values of every `metric,filter` of a task, in the order of its questions."""
    found: dict[str, list[Any]] = {}
    for line in sorted(lines, key=lambda line: str(line["custom_id"])):
        if task not in {OVERALL, line["task"]}:
            continue
        for key, value in list_item_metrics(line).items():
            found.setdefault(key, []).append(value)
    return found


def summarise_task(
    task: LmEvalTaskConfig,
    lines: Sequence[Line],
    base: Sequence[Line],
    shards: Sequence[Manifest],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Return what `results.json` holds on one model and one further task: figures, what they were, coverage."""
    first = shards[0]
    return {
        "lm_eval_task": task.task_name,
        "lm_eval": first.inputs["lm_eval"],
        "tasks": first.inputs["tasks"],
        "items": len(lines),
        "truncated_prompts": sum(int(shard.facts["truncated_prompts"]) for shard in shards),
        "figures": measure_task(
            lines, base, first.facts["aggregation"], first.facts["figures"] if len(shards) == 1 else None, bootstrap
        ),
    }


def list_item_metrics(line: Line) -> dict[str, Any]:
    """Return the figures of one question, by `metric,filter`."""
    return {
        f"{metric},{name}": value
        for name, answer in line["filters"].items()
        for metric, value in answer["metrics"].items()
    }
