"""Ask a served model the questions of one shard of an lm-eval task that the configuration names, IFEval or any other.

    python -m evaluation lm-eval --store-uri URI --run-id ID --model NAME --task ifeval --shard 0 --num-shards 2

Reads: models.json, endpoint.json, the task's data, the model's tokenizer. Needs NIGHTFORGE_ENDPOINT_KEY.
Writes: evaluation/<model>/lm_eval_<task>/shard-.../ {samples.jsonl, manifest}: lm-eval's whole sample of every question.
Tasks that generate are asked as chats, tasks that choose as raw text. A run that is killed goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from evaluation.serving.endpoint import Endpoint
from evaluation.shards.shard import PartFile, Shard, run_shard
from evaluation.suites.lm_eval.tasks import (
    LoadedTasks,
    ModelKind,
    evaluate_tasks,
    find_task,
    list_aggregations,
    list_figures,
    load_tasks,
    make_id,
    pick_docs,
    read_chat_template,
    silence,
    suite_name,
)
from evaluation.suites.protocol import Line
from evaluation.suites.registry import find_planned, report_skip
from voc.config.night import LmEvalTaskConfig, NightforgeConfig
from voc.errors import ConfigError
from voc.models.folder import digest_model
from voc.run import Run, find_model, open_run
from voc.store.manifest import digest_bytes


def run_suite(arguments: argparse.Namespace) -> None:
    """Open the run and evaluate one shard."""
    run = open_run(arguments.store_uri, arguments.run_id)
    find_task(run.config, arguments.task)
    if not report_skip(run, arguments.model, suite_name(arguments.task)):
        evaluate_task(run, arguments.model, arguments.task, Shard(arguments.shard, arguments.num_shards))


def evaluate_task(run: Run, model: str, name: str, shard: Shard) -> None:
    """Answer one shard's questions and write lm-eval's samples.

    Raises:
        ConfigError: If the configuration has no such task, or it cannot be asked here.
        DataError: If its data cannot be loaded.
        EndpointError: If the model is not served, another one is, or a request failed for good.
    """
    config = find_task(run.config, name)
    with load_tasks(config, seed=run.config.seed) as loaded:

        def ask_them(_: Endpoint, part: PartFile) -> tuple[list[Line], dict[str, Any]]:
            lines, facts = ask(run, model, config, loaded, shard, part=part)
            return lines, facts | {"items": len(lines), "num_docs": dict(loaded.num_docs)}

        check_gated(run.config, config, loaded)
        inputs = describe_inputs(run, model, config, loaded, shard)
        planned = find_planned(run.config, suite_name(name))
        facts = run_shard(run, model, planned, shard, inputs=inputs, ask=ask_them, module=__name__)
    if facts is not None:
        print(f"{inputs['suite']} {model}: {facts['items']} questions, {json.dumps(facts['figures'])}", flush=True)


def describe_inputs(
    run: Run, model: str, config: LmEvalTaskConfig, loaded: LoadedTasks, shard: Shard
) -> dict[str, Any]:
    """Return what a shard's answers depend on."""
    entry = find_model(run, model)
    template = read_chat_template(entry.uri) if loaded.kind == "chat" else None
    return {
        "suite": suite_name(config.name),
        "model_digest": entry.digest or digest_model(entry.uri),
        "lm_eval": version("lm_eval"),
        "tasks": dict(loaded.describes),
        "chat_template_hash": None if template is None else digest_bytes(template.encode()),
        "decoding": {"max_tokens": config.max_tokens, "scoring": config.scoring or run.config.evaluation.mmlu.scoring},
        "seed": run.config.seed,
        "shard": [shard.number, shard.count],
        "max_model_len": run.config.serving.max_model_len,  # longer prompts are cut
    }


def check_gated(config: NightforgeConfig, task: LmEvalTaskConfig, loaded: LoadedTasks) -> None:
    """Make sure, before anything is asked, that a task has the metrics of `decision.metrics`.

    Raises:
        ConfigError: If it has not.
    """
    names = {name for one in loaded.tasks.values() for name in list_figures(one)}
    for gate in config.decision.metrics:
        if gate.suite == suite_name(task.name) and gate.metric not in names:
            raise ConfigError(
                f"decision.metrics: the task {task.task_name} has no metric {gate.metric!r}",
                expected=f"one of {', '.join(sorted(names))}",
            )


def ask(
    run: Run, model: str, config: LmEvalTaskConfig, loaded: LoadedTasks, shard: Shard, *, part: PartFile
) -> tuple[list[Line], dict[str, Any]]:
    """Let lm-eval ask one shard's questions.

    Returns:
        One line per question, and figures for the manifest: lm-eval's own of this shard (`figures`), the names of each metric's
        aggregation, truncated prompts, and the way of scoring.
    """
    docs = pick_docs(loaded, shard.number, shard.count)
    tasks = {name: task for name, task in loaded.tasks.items() if name in docs}
    facts: dict[str, Any] = {"figures": {}, "truncated_prompts": 0, "aggregation": list_aggregations(loaded)}
    if not tasks:
        return [], facts
    scoring = config.scoring or run.config.evaluation.mmlu.scoring
    results, seen = ask_tasks(
        run, model, loaded.kind, tasks, concurrency=config.concurrency, scoring=scoring, part=part, docs=docs
    )
    facts |= {"figures": _jsonable(results["results"]), **seen}
    answers = {line["custom_id"]: line for line in part.lines}
    lines = [
        line for name, samples in results["samples"].items() for line in make_lines(name, samples, docs[name], answers)
    ]
    return lines, facts


def ask_tasks(
    run: Run,
    model: str,
    kind: ModelKind,
    tasks: Mapping[str, Any],
    *,
    concurrency: int,
    scoring: str,
    part: PartFile,
    docs: Mapping[str, Sequence[int]] | None = None,
    system_prompt: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let lm-eval ask a served model the questions of some tasks.

    Args:
        run: The run.
        model: Name of the model.
        kind: Which requests the tasks make.
        tasks: lm-eval's task objects by name.
        concurrency: Requests or questions in flight.
        scoring: The wanted way of the ladder (log-likelihoods only).
        part: Where finished questions go.
        docs: Which questions of each task; all of them by default.
        system_prompt: System turn of the chats.

    Returns:
        lm-eval's results with `samples` and `versions`, and facts for the manifest: truncated prompts, retries and, of
        log-likelihoods, the way of scoring.
    """
    silence()
    from evaluation.suites.lm_eval.models import make_model

    lm = make_model(run, model, kind, concurrency=concurrency, scoring=scoring, part=part)
    results = evaluate_tasks(lm, tasks, is_chat=kind == "chat", docs=docs, system_prompt=system_prompt)
    facts: dict[str, Any] = {"truncated_prompts": lm.truncated, "retries": dict(sorted(lm.retried.items()))}
    if kind == "log_likelihood":
        facts["scoring"] = lm.taken
    return results, facts


def make_lines(
    task: str, samples: Sequence[Mapping[str, Any]], docs: Sequence[int], answers: Mapping[str, Mapping[str, Any]]
) -> list[Line]:
    """Return one line per question from lm-eval's samples, of which a task with several filters has several.

    Args:
        task: lm-eval's name.
        samples: What it logged.
        docs: Number of each question within the task, in the order in which the shard asked them.
        answers: Part lines by the id under which the question was asked (its place in the shard).
    """
    places = {doc_id: place for place, doc_id in enumerate(docs)}
    lines: dict[int, Line] = {}
    for sample in samples:
        doc_id = int(sample["doc_id"])
        own = sample["doc"].get("custom_id") if isinstance(sample["doc"], dict) else None
        answer = answers.get(str(own) if own is not None else make_id(task, places[doc_id]), {})
        kept = {name: sample[name] for name in ("doc", "target", "arguments", "resps")}
        hashes = {name: sample[name] for name in ("doc_hash", "prompt_hash", "target_hash")}
        told = {name: answer[name] for name in ("finish_reason", "completion_tokens", "scoring") if name in answer}
        line = lines.setdefault(
            doc_id,
            {
                "custom_id": make_id(task, doc_id),
                "task": task,
                "doc_id": doc_id,
                **hashes,
                **told,
                "filters": {},
                **_jsonable(kept),
            },
        )
        line["filters"][sample["filter"]] = _jsonable(
            {
                "filtered_resps": sample["filtered_resps"],
                "metrics": {metric: sample[metric] for metric in sample["metrics"]},
            }
        )
    return [lines[doc_id] for doc_id in sorted(lines)]


def _jsonable(value: Any) -> Any:
    return json.loads(json.dumps(value, default=_to_plain))


def _to_plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
