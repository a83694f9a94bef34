"""What every model is asked about the customer's comments, and one test comment beside what a model said about it.

Reads: data/ of the run (taxonomy, test and training rows).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.suites.voc.schema import describe_decoding
from voc.errors import IntegrityError
from voc.labels.taxonomy import LEVELS, LabelPath, Taxonomy, parse_taxonomy
from voc.prompts import hash_comment_prompt, hash_prompt
from voc.records.acceptance import parse_accepted_rows
from voc.records.records import Segment, VocRecord
from voc.run import Run
from voc.store.manifest import digest_bytes, read_manifest

DROPPED = "dropped.jsonl"


@dataclass(frozen=True, slots=True)
class VocAnswer:
    """What a model said about one test comment.

    Attributes:
        record: The comment with its gold segments.
        segments: Predicted segments of the lenient parse, none after a failure.
        failure: Why the answer could not be read, or None.
        strict: Whether the whole answer was the list that was asked for.
        repair: What the lenient parse had to look past, or None.
    """

    record: VocRecord
    segments: tuple[Segment, ...]
    failure: str | None
    strict: bool
    repair: str | None = None

    @property
    def predicted(self) -> frozenset[LabelPath]:
        """The set of predicted label paths."""
        return frozenset(segment.label for segment in self.segments)

    @property
    def predicted_strictly(self) -> frozenset[LabelPath]:
        """The same, but nothing where the strict parse fails."""
        return self.predicted if self.strict else frozenset()

    @property
    def gold(self) -> frozenset[LabelPath]:
        """The set of gold label paths."""
        return frozenset(segment.label for segment in self.record.segments)


@dataclass(frozen=True, slots=True)
class VocQuestions:
    """What every model of the run is asked, and what the customer data teaches.

    Attributes:
        taxonomy: The labels.
        test: Test comments that are asked, after `limit`.
        training: The customer rows that arms may draw: every accepted one of a source of the `voc` format that was neither left
            out (duplicates and the like) nor held out for validation.
        prompt_hash: Of the words that this run asks in.
        decoding: What every row of this run declares.
    """

    taxonomy: Taxonomy
    test: tuple[VocRecord, ...]
    training: tuple[VocRecord, ...]
    prompt_hash: str
    decoding: Mapping[str, Any]

    def expect_prompts(self, prompt_hash: str) -> dict[str, str]:
        """Return the prompt hash of every comment that was asked in the words of `prompt_hash`."""
        return {record.id: hash_comment_prompt(prompt_hash, record.comment) for record in self.test}

    def join(self, lines: Sequence[Mapping[str, Any]]) -> list[VocAnswer]:
        """Put predictions, in the order of the test set, beside their comments."""
        return [
            VocAnswer(
                record,
                tuple(map(_to_segment, line["segments"] or ())),
                line["failure"],
                line["strict"],
                line.get("repair"),
            )
            for record, line in zip(self.test, lines, strict=True)
        ]


def load_questions(run: Run) -> VocQuestions:
    """Read what the run's models are asked.

    Raises:
        IntegrityError: If a row of the data is damaged.
    """
    suite = run.config.evaluation.voc
    taxonomy, test, _ = load_test(run)
    prompt_hash = hash_prompt(run.config.prompt.variant, taxonomy)
    return VocQuestions(
        taxonomy, test[: suite.limit], _read_training(run, taxonomy), prompt_hash, describe_decoding(suite, taxonomy)
    )


def load_test(run: Run) -> tuple[Taxonomy, tuple[VocRecord, ...], str]:
    """Return the taxonomy, the test records and the digest of both files as they are in the store."""
    folder = run.layout.data
    table, rows = (run.store.read_bytes(f"{folder}/{name}") for name in ("taxonomy.csv", "test.jsonl"))
    taxonomy = parse_taxonomy(table.decode(), f"{folder}/taxonomy.csv")
    return taxonomy, _parse_records(run, "test.jsonl", rows, taxonomy), digest_bytes(table + rows)


def _read_training(run: Run, taxonomy: Taxonomy) -> tuple[VocRecord, ...]:
    """Return the customer rows that arms may draw; `dropped.jsonl` numbers the others over all parts of their source."""
    prefix = run.layout.data
    manifest = read_manifest(run.store, prefix)
    names = [entry.path for entry in manifest.files] if manifest else []
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
    return parse_accepted_rows(lines, taxonomy, f"{run.store.uri}/{run.layout.data}/{name}")


def _to_segment(value: Mapping[str, str]) -> Segment:
    path = tuple(value[level] for level in LEVELS)
    return Segment(value["content"], (path[0], path[1], path[2], path[3]), value["emotion"])
