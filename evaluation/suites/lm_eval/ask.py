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
from evaluation.shards.run import Line, run_shard
from evaluation.shards.shard import PartFile, Shard, add_shard_arguments
from evaluation.suites.lm_eval.request_ids import make_id
from evaluation.suites.lm_eval.run import make_model, silence
from evaluation.suites.lm_eval.tasks import LoadedTasks, load_tasks, pick_docs
from evaluation.suites.mmlu.protocols import read_chat_template
from voc.config.night import LmEvalTaskConfig
from voc.errors import ConfigError
from voc.models.folder import digest_model
from voc.run import Run, add_run_arguments, find_model, open_run
from voc.store.manifest import digest_bytes

FILE_NAME = "samples.jsonl"


def suite_name(task: str) -> str:
    """Return the name of a task's suite, which is part of object keys."""
    return f"lm_eval_{task}"


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `lm-eval`."""
    parser = subparsers.add_parser("lm-eval", help="ask a served model the questions of an lm-eval task")
    add_run_arguments(parser)
    parser.add_argument("--model", required=True, help="name of a model in the run's models.json")
    parser.add_argument("--task", required=True, help="name of one of evaluation.lm_eval_tasks")
    add_shard_arguments(parser)
    parser.set_defaults(run=run_suite)


def run_suite(arguments: argparse.Namespace) -> None:
    """Open the run and evaluate one shard."""
    run = open_run(arguments.store_uri, arguments.run_id)
    evaluate_task(run, arguments.model, arguments.task, Shard(arguments.shard, arguments.num_shards))


def evaluate_task(run: Run, model: str, name: str, shard: Shard) -> None:
    """Answer one shard's questions and write lm-eval's samples.

    Raises:
        ConfigError: If the configuration has no such task, or it cannot be asked here.
        DataError: If its data cannot be loaded.
        EndpointError: If the model is not served, another one is, or a request failed for good.
    """
    try:
        config = run.config.evaluation.lm_eval_task(name)
    except ValueError as error:
        raise ConfigError(str(error), expected="a name of evaluation.lm_eval_tasks") from None
    with load_tasks(config, seed=run.config.seed) as loaded:

        def ask_them(_: Endpoint, part: PartFile) -> tuple[list[Line], dict[str, Any]]:
            lines, facts = ask(run, model, config, loaded, shard, part=part)
            return lines, facts | {"items": len(lines), "num_docs": dict(loaded.num_docs)}

        inputs = describe_inputs(run, model, config, loaded, shard)
        facts = run_shard(run, model, shard, inputs=inputs, file_name=FILE_NAME, ask=ask_them)
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
        "decoding": {"max_tokens": config.max_tokens, "scoring": run.config.evaluation.mmlu.scoring},
        "seed": run.config.seed,
        "shard": [shard.number, shard.count],
        "max_model_len": run.config.serving.max_model_len,  # longer prompts are cut
    }


def ask(
    run: Run, model: str, config: LmEvalTaskConfig, loaded: LoadedTasks, shard: Shard, *, part: PartFile
) -> tuple[list[Line], dict[str, Any]]:
    """Let lm-eval ask one shard's questions.

    Returns:
        One line per question, and figures for the manifest: lm-eval's own of this shard (`figures`), the names of each metric's
        aggregation, truncated prompts, and the way of scoring.
    """
    silence()
    from lm_eval.evaluator import evaluate

    docs = pick_docs(loaded, shard.number, shard.count)
    tasks = {name: task for name, task in loaded.tasks.items() if name in docs}
    facts: dict[str, Any] = {"figures": {}, "truncated_prompts": 0, "aggregation": list_aggregations(loaded)}
    if not tasks:
        return [], facts
    scoring = run.config.evaluation.mmlu.scoring
    lm = make_model(run, model, loaded.kind, concurrency=config.concurrency, scoring=scoring, part=part)
    results: Any = evaluate(
        lm,
        {"tasks": tasks, "groups": {}, "group_map": {}},
        samples=dict(docs),
        apply_chat_template=loaded.kind == "chat",
        bootstrap_iters=0,
    )
    facts |= {"figures": _jsonable(results["results"]), "truncated_prompts": lm.truncated}
    facts["retries"] = dict(sorted(lm.retried.items()))
    if loaded.kind == "log_likelihood":
        facts["scoring"] = lm.taken
    answers = {line["custom_id"]: line for line in part.lines}
    lines = [
        line for name, samples in results["samples"].items() for line in make_lines(name, samples, docs[name], answers)
    ]
    return lines, facts


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


def list_aggregations(loaded: LoadedTasks) -> dict[str, dict[str, str]]:
    """Return, per task and metric, the name of the function that makes one figure of all questions."""
    return {
        name: {metric: getattr(function, "__name__", str(function)) for metric, function in task.aggregation().items()}
        for name, task in loaded.tasks.items()
    }


def _jsonable(value: Any) -> Any:
    return json.loads(json.dumps(value, default=_to_plain))


def _to_plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
