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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from evaluation.items import ITEMS_NAME, write_items
from evaluation.results.gathered import RESULTS_NAME, ModelResults
from evaluation.shards.cache import summarise_hits
from evaluation.shards.coverage import check_coverage, list_coverage_problems
from evaluation.suites.protocol import BASE, Line, ModelAnswers, PlannedSuite
from evaluation.suites.registry import list_suites, plan_suites
from voc.config.file import hash_config
from voc.errors import ConfigError, IntegrityError
from voc.models.folder import digest_model
from voc.progress import Progress
from voc.run import ModelEntry, Run, open_run, read_models
from voc.store.manifest import Manifest, commit_folder, is_finished, read_manifest, verify_directory

RESULTS_FORMAT = "nightforge/results/2"
# What each suite of the registry asks, by its name; only the suite looks inside.
Questions = Mapping[str, Any]


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
    data_digest = verify_directory(run.store, run.layout.data).digest
    questions = load_questions(run)
    inputs = describe_inputs(run, models, data_digest)
    todo = [m for m in models if not is_finished(run.store, run.layout.results(m.name), inputs[m.name])]
    for model in models:
        if model not in todo:
            print(f"gather: the results of {model.name} are finished already", flush=True)
    if todo:
        with run.timed("gather"):
            _gather_models(run, models, todo, questions, inputs)


def load_questions(run: Run) -> Questions:
    """Read what the run's models are asked.

    Raises:
        IntegrityError: If the data is damaged.
    """
    return {suite.name: suite.load_questions(run) for suite in list_suites()}


def describe_inputs(run: Run, models: list[ModelEntry], data_digest: str) -> dict[str, dict[str, Any]]:
    """Return what each model's results depend on: its own shards, and the base's, which it is compared with.

    Raises:
        CoverageError: If a shard is not finished.
    """
    shards: dict[str, Any] = {}
    problems: list[str] = []
    for model in models:
        manifests, missing = read_shard_manifests(run, model)
        problems += missing
        shards[model.name] = {suite: [m.digest for m in found] for suite, found in manifests.items()}
    check_coverage(problems)
    common = {"format": RESULTS_FORMAT, "config": hash_config(run.config), "data": data_digest}
    return {m.name: {**common, "shards": shards[m.name], "base_shards": shards[BASE]} for m in models}


def list_shards(run: Run, model: str, suite: PlannedSuite) -> list[str]:
    """Return the prefixes of a suite's shards."""
    return [run.layout.shard(model, suite.name, number, suite.num_shards) for number in range(suite.num_shards)]


def read_shard_manifests(run: Run, entry: ModelEntry) -> tuple[dict[str, list[Manifest]], list[str]]:
    """Return the manifests of a model's shards, and one sentence for every shard that is not finished.

    Suites that cannot measure a model of this kind have none.
    """
    manifests: dict[str, list[Manifest]] = {}
    problems = []
    for suite in plan_suites(run.config):
        manifests[suite.name] = []
        for number, prefix in enumerate(list_shards(run, entry.name, suite) if suite.measures(entry) else ()):
            manifest = read_manifest(run.store, prefix)
            if manifest is None:
                problems.append(f"{entry.name}, {suite.name}: shard {number} of {suite.num_shards} is not finished")
            else:
                manifests[suite.name].append(manifest)
    return manifests, problems


def load_answers(run: Run, entry: ModelEntry, questions: Questions) -> tuple[ModelAnswers, list[str]]:
    """Read and verify every shard of one model.

    Returns:
        The answers in the order of the questions (only of use without problems; none of suites that cannot measure this
        kind of model), and the problems of coverage.

    Raises:
        IntegrityError: If a shard's file does not match its manifest, or it measured another model than this run's.
    """
    digest = entry.digest or digest_model(entry.uri)
    manifests, problems = read_shard_manifests(run, entry)
    lines: dict[str, list[Line]] = {}
    num_expected: dict[str, int] = {}
    for owner in list_suites():
        for suite in owner.plan(run.config):
            found = _read_lines(run, entry, suite, digest)
            lines[suite.name] = found
            if not suite.measures(entry):
                continue
            expected = owner.expect(questions[owner.name], suite.name, entry, manifests[suite.name])
            if expected is not None:
                num_expected[suite.name] = len(expected)
                problems += [f"{entry.name}, {p}" for p in list_coverage_problems(suite.name, expected, found)]
                by_id = {line["custom_id"]: line for line in found}
                lines[suite.name] = [by_id[name] for name in expected if name in by_id]
    return ModelAnswers(entry, digest, lines, manifests, num_expected), problems


def _read_lines(run: Run, entry: ModelEntry, suite: PlannedSuite, digest: str) -> list[Line]:
    """Return the lines of all finished shards, verified."""
    lines: list[Line] = []
    for prefix in list_shards(run, entry.name, suite) if suite.measures(entry) else ():
        if read_manifest(run.store, prefix) is None:
            continue
        manifest = verify_directory(run.store, prefix)
        seen = manifest.inputs.get("model_digest", digest)
        if seen != digest:
            raise IntegrityError(
                f"{run.store.uri}/{prefix} measured the model {seen}",
                expected=f"{digest}, the model of this run",
                remedy="delete the shard and run the suite again",
            )
        lines += map(json.loads, run.store.read_bytes(f"{prefix}/{suite.file_name}").splitlines())
    return lines


def _gather_models(
    run: Run, models: list[ModelEntry], todo: list[ModelEntry], questions: Questions, inputs: dict[str, dict[str, Any]]
) -> None:
    answers: dict[str, ModelAnswers] = {}
    problems: list[str] = []
    for model in models:
        answers[model.name], found = load_answers(run, model, questions)
        problems += found
    ordered = [answers[BASE], *(each for name, each in answers.items() if name != BASE)]
    problems += [problem for suite in list_suites() for problem in suite.list_problems(run.config, ordered)]
    check_coverage(problems)
    progress = Progress("gather", len(todo), "models", interval_s=0)
    for model in todo:
        mine = answers[model.name]
        results = measure_model(run, mine, answers[BASE], questions)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            text = json.dumps(results, indent=1, ensure_ascii=False)
            (folder / RESULTS_NAME).write_text(text, encoding="utf-8")
            items = [row for suite in list_suites() for row in suite.list_items(questions[suite.name], mine)]
            write_items(folder / ITEMS_NAME, items)
            facts = {"items": {suite: len(lines) for suite, lines in mine.lines.items()}}
            commit_folder(run.store, run.layout.results(model.name), folder, inputs=inputs[model.name], facts=facts)
        progress.advance(1, model=model.name)


def measure_model(run: Run, answers: ModelAnswers, base: ModelAnswers, questions: Questions) -> ModelResults:
    """Return what `results.json` holds for one model: how it was measured, and every suite's own keys."""
    entry = answers.entry
    results: dict[str, Any] = {
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
            suite: f"{len(answers.lines[suite])} / {expected}" for suite, expected in answers.num_expected.items()
        },
        "cut_prompts": count_cut_prompts(answers),
    }
    for suite in list_suites():
        results |= suite.measure(run, questions[suite.name], answers, base)
    examples = [found for suite in list_suites() for found in suite.pick_examples(questions[suite.name], answers)]
    results |= {
        "examples": sorted(examples, key=lambda example: str(example["kind"])),
        "cache": summarise_hits(answers.shards),
    }
    return cast("ModelResults", results)  # the suites' keys are checked by a test: each returns its own


def count_cut_prompts(answers: ModelAnswers) -> dict[str, int]:
    """Return, per suite, how many prompts did not fit the model's context (VOC: not asked; questions: cut at the front)."""
    names = ("prompts_too_long", "truncated_prompts")
    return {suite: sum(int(m.facts.get(n, 0)) for m in found for n in names) for suite, found in answers.shards.items()}
