"""What a run's models were asked and what they answered, read back from the store and checked for completeness.

Reads: the data directory (taxonomy, test, training rows), the question file, every shard of every suite.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.kinds import list_suites
from evaluation.shards.coverage import list_coverage_problems
from evaluation.suites.mmlu.general import GeneralAnswers
from evaluation.suites.mmlu.protocols import PROTOCOLS, hash_questions, make_asking, suite_of
from evaluation.suites.voc.answers import VocAnswer
from evaluation.suites.voc.schema import describe_decoding
from voc.config.night import NightforgeConfig
from voc.errors import IntegrityError
from voc.labels.taxonomy import LEVELS, Taxonomy, parse_taxonomy
from voc.mmlu import MmluItem, load_mmlu
from voc.models.folder import digest_model
from voc.prompts import hash_comment_prompt, hash_prompt
from voc.records.acceptance import read_voc_rows
from voc.records.records import Segment, VocRecord
from voc.run import ModelEntry, Run
from voc.store.manifest import Manifest, read_manifest, verify_directory

VOC, LOG_LIKELIHOOD, GENERATIVE, LETTER = "voc", "mmlu_log_likelihood", "mmlu_generative", "mmlu_letter"
SUITE_FILES = {VOC: "predictions.jsonl", **dict.fromkeys((LOG_LIKELIHOOD, GENERATIVE, LETTER), "samples.jsonl")}
DROPPED = "dropped.jsonl"
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Questions:
    """What every model of the run is asked, and what the customer data teaches.

    Attributes:
        taxonomy: The labels.
        test: Test comments that are asked, after `limit`.
        training: The customer rows that arms may draw: every accepted one of a source of the `voc` format that was neither left
            out (duplicates and the like) nor held out for validation.
        mmlu: Multiple-choice questions that are asked, after `limit`.
        expected: Per suite, the prompt hash of every item id.
        data_digest: Manifest digest of the data directory.
        decoding: What every VOC row of this run declares.
    """

    taxonomy: Taxonomy
    test: tuple[VocRecord, ...]
    training: tuple[VocRecord, ...]
    mmlu: tuple[MmluItem, ...]
    expected: Mapping[str, Mapping[str, str]]
    data_digest: str
    decoding: Mapping[str, Any]

    def expect_prompts(self, prompt_hash: str) -> dict[str, str]:
        """Return the prompt hash of every comment that was asked in the words of `prompt_hash`."""
        return {record.id: hash_comment_prompt(prompt_hash, record.comment) for record in self.test}


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """One model's lines per suite, in the order of the questions, and the manifests of the shards they come from."""

    entry: ModelEntry
    digest: str
    lines: Mapping[str, Sequence[Line]]
    shards: Mapping[str, Sequence[Manifest]]

    def voc_answers(self, questions: Questions) -> list[VocAnswer]:
        """Join the predictions with their test comments."""
        return [
            VocAnswer(
                record,
                tuple(map(_to_segment, line["segments"] or ())),
                line["failure"],
                line["strict"],
                line.get("repair"),
            )
            for record, line in zip(questions.test, self.lines[VOC], strict=True)
        ]

    def general_answers(self) -> GeneralAnswers:
        """Return the protocols' lines side by side."""
        return GeneralAnswers(self.lines[LOG_LIKELIHOOD], self.lines[GENERATIVE], self.lines[LETTER])


def load_questions(run: Run) -> Questions:
    """Read what the run's models are asked.

    Raises:
        IntegrityError: If the data directory is not finished or a row in it is damaged.
    """
    config, prefix = run.config, run.layout.data
    manifest = verify_directory(run.store, prefix)
    taxonomy = parse_taxonomy(run.store.read_bytes(f"{prefix}/taxonomy.csv").decode(), f"{prefix}/taxonomy.csv")
    test = _parse_records(run, "test.jsonl", run.store.read_bytes(f"{prefix}/test.jsonl"), taxonomy)
    test = test[: config.evaluation.voc.limit]
    training = _read_training(run, manifest, taxonomy)
    mmlu = tuple(load_mmlu(config.evaluation.mmlu.dataset, config.evaluation.mmlu.limit))
    prompt_hash = hash_prompt(config.prompt.variant, taxonomy)
    expected = {
        VOC: {record.id: hash_comment_prompt(prompt_hash, record.comment) for record in test},
        **{suite_of(p): hash_questions(make_asking(p, config.evaluation.mmlu), mmlu) for p in PROTOCOLS},
    }
    decoding = describe_decoding(config.evaluation.voc, taxonomy)
    return Questions(taxonomy, test, training, mmlu, expected, manifest.digest, decoding)


def _read_training(run: Run, manifest: Manifest, taxonomy: Taxonomy) -> tuple[VocRecord, ...]:
    """Return the customer rows that arms may draw; `dropped.jsonl` numbers the others over all parts of their source."""
    prefix = run.layout.data
    names = [entry.path for entry in manifest.files]
    lines = run.store.read_bytes(f"{prefix}/{DROPPED}").splitlines() if DROPPED in names else []
    dropped = {(row["source"], row["row"]): row["id"] for row in map(json.loads, lines)}
    kept: list[VocRecord] = []
    for source in (source.name for source in run.config.data.sources if source.format == "voc"):
        parts = [name for name in names if name.startswith(f"rows/{source}/")]
        found = [r for name in parts for r in _parse_records(run, name, _read_rows(run, name), taxonomy)]
        for row, record in enumerate(found):
            identifier = dropped.pop((source, row), None)
            if identifier is None:
                kept.append(record)
            elif identifier != record.id:
                raise IntegrityError(
                    f"{run.store.uri}/{prefix}/{DROPPED} says that row {row} of {source} is {identifier!r}",
                    expected=repr(record.id),
                    remedy="run the prepare stage again",
                )
    return tuple(kept)


def _read_rows(run: Run, name: str) -> bytes:
    """Return the accepted rows of one part as JSON lines."""
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(run.store.read_bytes(f"{run.layout.data}/{name}")), columns=["record"])
    return "\n".join(table.column("record").to_pylist()).encode()


def _parse_records(run: Run, name: str, lines: bytes, taxonomy: Taxonomy) -> tuple[VocRecord, ...]:
    accepted = read_voc_rows(lines, taxonomy)
    if accepted.rejections:
        first = accepted.rejections[0]
        raise IntegrityError(
            f"{run.store.uri}/{run.layout.data}/{name}, row {first.line} is not an accepted row: {first.detail}",
            remedy="run the prepare stage again",
        )
    return accepted.rows


def num_shards(config: NightforgeConfig, suite: str) -> int:
    """Return how many shards share a suite."""
    return config.evaluation.voc.shards if suite == VOC else config.evaluation.mmlu.shards


def list_shards(run: Run, model: str, suite: str) -> list[str]:
    """Return the prefixes of a suite's shards."""
    count = num_shards(run.config, suite)
    return [run.layout.shard(model, suite, shard, count) for shard in range(count)]


def read_shard_manifests(run: Run, entry: ModelEntry) -> tuple[dict[str, list[Manifest]], list[str]]:
    """Return the manifests of a model's shards, and one sentence for every shard that is not finished.

    Suites that cannot measure a model of this kind have none.
    """
    manifests: dict[str, list[Manifest]] = {suite: [] for suite in SUITE_FILES}
    problems = []
    for suite in list_suites(entry, SUITE_FILES):
        for number, prefix in enumerate(list_shards(run, entry.name, suite)):
            manifest = read_manifest(run.store, prefix)
            if manifest is None:
                problems.append(
                    f"{entry.name}, {suite}: shard {number} of {num_shards(run.config, suite)} is not finished"
                )
            else:
                manifests[suite].append(manifest)
    return manifests, problems


def load_answers(run: Run, entry: ModelEntry, questions: Questions) -> tuple[ModelAnswers, list[str]]:
    """Read and verify every shard of one model.

    Returns:
        The answers in the order of the questions (only of use without problems; none of suites that cannot measure this
        kind of model), and the problems of coverage.

    Raises:
        IntegrityError: If a shard's file does not match its manifest, or it measured another model than this run's.
    """
    manifests, problems = read_shard_manifests(run, entry)
    digest = entry.digest or digest_model(entry.uri)
    lines: dict[str, list[Line]] = {suite: [] for suite in SUITE_FILES}
    for suite in list_suites(entry, SUITE_FILES):
        name = SUITE_FILES[suite]
        found: list[Line] = []
        for prefix in list_shards(run, entry.name, suite):
            if read_manifest(run.store, prefix) is None:
                continue
            manifest = verify_directory(run.store, prefix)
            _check_model(manifest, digest, f"{run.store.uri}/{prefix}")
            if suite == VOC:
                _check_decoding(manifest, questions.decoding, f"{run.store.uri}/{prefix}")
            found += map(json.loads, run.store.read_bytes(f"{prefix}/{name}").splitlines())
        expected = questions.expected[suite]
        if entry.kind == "imported" and manifests[suite]:
            expected = questions.expect_prompts(str(manifests[suite][0].inputs["prompt_hash"]))
        problems += [f"{entry.name}, {p}" for p in list_coverage_problems(suite, expected, found)]
        by_id = {line["custom_id"]: line for line in found}
        lines[suite] = [by_id[name] for name in expected if name in by_id]
    return ModelAnswers(entry, digest, lines, manifests), problems


def _check_model(manifest: Manifest, digest: str, where: str) -> None:
    seen = manifest.inputs.get("model_digest", digest)
    if seen != digest:
        raise IntegrityError(
            f"{where} measured the model {seen}",
            expected=f"{digest}, the model of this run",
            remedy="delete the shard and run the suite again",
        )


def _check_decoding(manifest: Manifest, decoding: Mapping[str, Any], where: str) -> None:
    """Make sure that a shard's answers were asked for as this run's row declares."""
    seen = manifest.inputs.get("decoding", decoding)
    if seen != dict(decoding):
        raise IntegrityError(
            f"{where} was answered with {json.dumps(seen)}",
            expected=json.dumps(dict(decoding)),
            remedy="run the suite's shards again: a row holds answers of one kind of decoding",
        )


def _to_segment(value: Mapping[str, str]) -> Segment:
    path = tuple(value[level] for level in LEVELS)
    return Segment(value["content"], (path[0], path[1], path[2], path[3]), value["emotion"])
