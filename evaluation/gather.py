"""Merge the shards of every model, refuse what is incomplete, and compute every figure.

    python -m evaluation gather --store-uri URI --run-id ID

Reads: models.json, data/, every shard of every suite.
Writes: evaluation/<model>/results/ {results.json, items.parquet, manifest} per model. `items.parquet` has one row per item
and suite, so that any two models can be compared item by item.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from evaluation.answers import (
    GENERATIVE,
    SUITE_FILES,
    VOC,
    ModelAnswers,
    Questions,
    load_answers,
    load_questions,
    read_shard_manifests,
)
from evaluation.examples import pick_examples
from evaluation.items import write_items
from evaluation.kinds import list_suites
from evaluation.shards.cache import summarise_hits
from evaluation.shards.coverage import check_coverage
from evaluation.suites.lm_eval.gather import load_task_answers, measure_tasks, read_task_manifests
from evaluation.suites.lm_eval.scoring import list_scoring_problems
from evaluation.suites.mmlu.decomposition import decompose
from evaluation.suites.mmlu.general import CHANCE, measure_general, measure_written
from evaluation.suites.voc.resampling import Bootstrap
from evaluation.suites.voc.schema import describe_decoding
from evaluation.suites.voc.summary import measure_voc
from evaluation.suites.voc.support import collect_labels, measure_lookup_floor
from voc.config.file import hash_config
from voc.errors import ConfigError
from voc.progress import Progress
from voc.prompts import hash_prompt
from voc.run import ModelEntry, Run, add_run_arguments, open_run, read_models
from voc.store.manifest import commit_folder, is_finished

RESULTS_FORMAT = "nightforge/results/2"
RESULTS_NAME, ITEMS_NAME = "results.json", "items.parquet"
BASE = "base"
# Of a model that others serve: what needs log-probabilities, and the comparison with them.
NOT_MEASURED: dict[str, Any] = {
    "chance": CHANCE,
    **dict.fromkeys(
        (
            *("log_likelihood", "generative_strict", "generative_lenient", "letter_constrained"),
            *("schema_leak", "extraction_failure", "refusal", "truncated"),
            *("answer_kinds", "scoring", "against_base", "decomposition"),
        )
    ),
}


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `gather`."""
    parser = subparsers.add_parser("gather", help="merge shards, check coverage, compute every figure")
    add_run_arguments(parser)
    parser.set_defaults(run=run_gather)


def run_gather(arguments: argparse.Namespace) -> None:
    """Open the run and gather."""
    gather(open_run(arguments.store_uri, arguments.run_id))


def gather(run: Run) -> None:
    """Write the results of every model of the run; models whose results are finished from the same inputs stay.

    Raises:
        CoverageError: If any expected item of any model is not there exactly once; then nothing is written.
        IntegrityError: If a shard is damaged or measured another model.
    """
    models = read_models(run)
    if not any(model.name == BASE for model in models):
        raise ConfigError(f"models.json has no model {BASE!r}", expected="the base first", remedy="run prepare again")
    questions = load_questions(run)
    inputs = describe_inputs(run, models, questions)
    todo = [m for m in models if not is_finished(run.store, run.layout.results(m.name), inputs[m.name])]
    for model in models:
        if model not in todo:
            print(f"gather: the results of {model.name} are finished already", flush=True)
    if todo:
        with run.timed("gather"):
            _gather_models(run, models, todo, questions, inputs)


def describe_inputs(run: Run, models: list[ModelEntry], questions: Questions) -> dict[str, dict[str, Any]]:
    """Return what each model's results depend on: its own shards, and the base's, which it is compared with.

    Raises:
        CoverageError: If a shard is not finished.
    """
    shards: dict[str, Any] = {}
    problems: list[str] = []
    for model in models:
        manifests, missing = read_shard_manifests(run, model)
        tasks, missing_tasks = read_task_manifests(run, model.name) if model.kind == "vllm" else ({}, [])
        problems += missing + missing_tasks
        shards[model.name] = {suite: [m.digest for m in found] for suite, found in (manifests | tasks).items()}
    check_coverage(problems)
    common = {"format": RESULTS_FORMAT, "config": hash_config(run.config), "data": questions.data_digest}
    return {m.name: {**common, "shards": shards[m.name], "base_shards": shards[BASE]} for m in models}


def _gather_models(
    run: Run, models: list[ModelEntry], todo: list[ModelEntry], questions: Questions, inputs: dict[str, dict[str, Any]]
) -> None:
    answers: dict[str, ModelAnswers] = {}
    problems: list[str] = []
    for model in models:
        answers[model.name], found = load_answers(run, model, questions)
        problems += found
    served = [model for model in models if model.kind == "vllm"]
    tasks, task_problems = load_task_answers(run, served, BASE)
    check_coverage(problems + task_problems)
    ways = {model.name: answers[model.name].general_answers().ways_of_scoring() for model in served}
    check_coverage(list_scoring_problems(ways))
    config = run.config
    bootstrap = Bootstrap(config.evaluation.bootstrap_resamples, config.decision.confidence, config.seed)
    floor = measure_lookup_floor(questions.training, questions.test)
    progress = Progress("gather", len(todo), "models", interval_s=0)
    for model in todo:
        results = measure_model(run, answers[model.name], answers[BASE], questions, floor)
        own = {task.suite: task.shards[model.name] for task in tasks} if model in served else {}
        results["cache"] = summarise_hits({**answers[model.name].shards, **own})
        results["lm_eval_tasks"] = measure_tasks(tasks, model.name, BASE, bootstrap) if model in served else {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            text = json.dumps(results, indent=1, ensure_ascii=False)
            (folder / RESULTS_NAME).write_text(text, encoding="utf-8")
            write_items(folder / ITEMS_NAME, answers[model.name], questions)
            facts = {"items": {suite: len(lines) for suite, lines in answers[model.name].lines.items()}}
            commit_folder(run.store, run.layout.results(model.name), folder, inputs=inputs[model.name], facts=facts)
        progress.advance(1, model=model.name)


def measure_model(
    run: Run, answers: ModelAnswers, base: ModelAnswers, questions: Questions, floor: dict[str, Any]
) -> dict[str, Any]:
    """Return what `results.json` holds for one model."""
    config = run.config
    bootstrap = Bootstrap(config.evaluation.bootstrap_resamples, config.decision.confidence, config.seed)
    voc = measure_voc(answers.voc_answers(questions), questions.taxonomy, collect_labels(questions.training), bootstrap)
    reasons = dict(sorted(Counter(line["finish_reason"] for line in answers.lines[VOC]).items()))
    entry = answers.entry
    return {
        "format": RESULTS_FORMAT,
        "model": {
            "name": entry.name,
            "role": entry.role,
            "title": entry.title,
            "uri": entry.uri,
            "digest": answers.digest,
            "kind": entry.kind,
        },
        "coverage": {
            suite: f"{len(answers.lines[suite])} / {len(questions.expected[suite])}"
            for suite in list_suites(entry, SUITE_FILES)
        },
        "cut_prompts": count_cut_prompts(answers),
        "voc": {
            **voc,
            **describe_asking(run, answers, questions),
            "lookup_floor": floor,
            "usage": sum_usage(answers),
            "finish_reasons": reasons,
        },
        "general": measure_general_ability(run, answers, base, questions),
        "examples": pick_examples(answers, questions),
    }


def describe_asking(run: Run, answers: ModelAnswers, questions: Questions) -> dict[str, Any]:
    """Return how the comments were asked; what a service asked in its own evaluation is known by the hash of its words only."""
    variant: str = run.config.prompt.variant
    ours = hash_prompt(run.config.prompt.variant, questions.taxonomy)
    decoding: dict[str, Any] | None = describe_decoding(run.config.evaluation.voc, questions.taxonomy)
    asked = ours
    if answers.entry.kind == "imported":
        asked, decoding = str(answers.shards[VOC][0].inputs["prompt_hash"]), None
    return {"prompt": {"variant": variant if asked == ours else "imported", "hash": asked}, "decoding": decoding}


def measure_general_ability(
    run: Run, answers: ModelAnswers, base: ModelAnswers, questions: Questions
) -> dict[str, Any]:
    """Return the figures of general ability; those that this kind of model cannot show are null."""
    config = run.config
    confidence = config.decision.confidence
    if answers.entry.kind != "vllm":
        measured = answers.lines[GENERATIVE]
        return NOT_MEASURED | (measure_written(measured, confidence=confidence) if measured else {})
    general = measure_general(answers.general_answers(), confidence=confidence)
    decomposition = decompose(
        answers.general_answers(),
        base.general_answers(),
        {item.custom_id: item.question for item in questions.mmlu},
        num_resamples=config.evaluation.bootstrap_resamples,
        confidence=confidence,
        seed=config.seed,
    )
    return {**general, "against_base": decomposition["figures"], "decomposition": decomposition}


def count_cut_prompts(answers: ModelAnswers) -> dict[str, int]:
    """Return, per suite, how many prompts did not fit the model's context (VOC: not asked; questions: cut at the front)."""
    names = ("prompts_too_long", "truncated_prompts")
    return {suite: sum(int(m.facts.get(n, 0)) for m in found for n in names) for suite, found in answers.shards.items()}


def sum_usage(answers: ModelAnswers) -> dict[str, float]:
    """Return the tokens of the VOC suite, and the wall seconds of its slowest shard."""
    usage = [line["usage"] for line in answers.lines[VOC]]
    return {
        "prompt_tokens": sum(u["prompt_tokens"] for u in usage),
        "completion_tokens": sum(u["completion_tokens"] for u in usage),
        "wall_s": max((float(m.facts.get("wall_s", 0)) for m in answers.shards[VOC]), default=0.0),
    }
