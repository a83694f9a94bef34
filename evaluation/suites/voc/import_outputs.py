"""Import the answers that a closed service gave in its own evaluation, so that its tuned models get their row.

    python -m evaluation import-outputs --store-uri URI --run-id ID --model NAME --file inference_output.jsonl

Reads: models.json, data/, and the file: one JSON object a line with `prompt`, `inference`, `gold` and `metadata`.
Writes: evaluation/<model>/voc/shard-.../ like the VOC suite does, so that `gather` checks and scores them alike.

An answer belongs to the test comment whose id is in its metadata, else to the one whose text its prompt ends with. Every test
comment must have exactly one answer: what is missing, unmatched, repeated or unreadable is named, and an incomplete import
is refused. Answers are scored against this run's labels; a `gold` that says otherwise is counted. The service asked in its
own words: unless they are this run's, the row carries another prompt hash.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/nova-model-evaluation.html (inference_output.jsonl)
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.clients.interface import Completion, to_valid_text
from evaluation.shards.coverage import list_few
from evaluation.shards.shard import Shard, finish_shard, say_if_finished
from evaluation.suites.protocol import IMPORTED
from evaluation.suites.registry import find_planned
from evaluation.suites.voc.answers import load_test
from evaluation.suites.voc.ask import SUITE, describe_inputs, make_line, summarise
from voc.errors import ConfigError, CoverageError
from voc.prompts import COMMENT_PREFIX, hash_prompt, render_system
from voc.records.records import VocRecord
from voc.responses import parse_response
from voc.run import ModelEntry, Run, find_model, open_run
from voc.store.manifest import digest_bytes, digest_json
from voc.store.uri import read_uri

ID_KEYS = ("id", "custom_id", "recordId")
_KEYS = ("prompt", "inference")


@dataclass(slots=True)
class Imported:
    """What a file says.

    Attributes:
        answers: Per test id, the first answer found.
        systems: The system turns that were seen, `None` where a prompt has none.
        problems: Line numbers or ids by the name of what is wrong with them.
    """

    answers: dict[str, str] = field(default_factory=dict)
    systems: set[str | None] = field(default_factory=set)
    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def run_import(arguments: argparse.Namespace) -> None:
    """Open the run and import."""
    run = open_run(arguments.store_uri, arguments.run_id)
    import_outputs(run, find_model(run, arguments.model), arguments.file)


def import_outputs(run: Run, entry: ModelEntry, uri: str) -> None:
    """Write a file of answers as the model's VOC shards.

    Raises:
        ConfigError: If the model is not one whose answers are imported, or its entry names another file's content.
        CoverageError: If any test comment does not have exactly one answer.
    """
    if entry.kind != IMPORTED:
        raise ConfigError(
            f"{entry.name!r} is a model of the kind {entry.kind}",
            expected="a model of external_models.imported",
            remedy="its answers come from the suites",
        )
    data = read_uri(uri)
    if digest_bytes(data) != entry.digest:
        raise ConfigError(
            f"{uri} has SHA-256 {digest_bytes(data)}",
            expected=f"{entry.digest}, the file as it was when the run was prepared",
            remedy="run prepare again in a new run",
        )
    taxonomy, records, data_digest = load_test(run)
    asked = records[: run.config.evaluation.voc.limit]
    found = match_outputs(data, records)
    check_complete(found, asked, uri)
    prompt_hash = identify_prompt(found.systems, render_system(run.config.prompt.variant, taxonomy)) or hash_prompt(
        run.config.prompt.variant, taxonomy
    )
    counts = {name: len(names) for name, names in sorted(found.problems.items())}
    planned = find_planned(run.config, SUITE)
    for number in range(planned.num_shards):
        shard = Shard(number, planned.num_shards)
        prefix = run.layout.shard(entry.name, SUITE, shard.number, shard.count)
        inputs = describe_inputs(run, entry.name, shard, taxonomy, data_digest) | {"prompt_hash": prompt_hash}
        del inputs["decoding"]  # the service's own, which its file does not tell
        if say_if_finished(run, prefix, inputs, f"import {entry.name} {shard.number}/{shard.count}"):
            continue
        lines = [
            make_line(record, prompt_hash, Completion(found.answers[record.id], IMPORTED, 0, 0))
            for record in shard.pick(asked)
        ]
        facts = {**summarise(lines), "wall_s": 0.0, "engine": IMPORTED, "imported_from": uri, "import_counts": counts}
        finish_shard(run.store, prefix, planned.file_name, lines, inputs=inputs, facts=facts)
    shown = ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing was odd"
    print(f"import {entry.name}: {len(asked)} answers ({shown})", flush=True)


def match_outputs(data: bytes, records: Sequence[VocRecord]) -> Imported:
    """Join the lines of a file with the test comments.

    Problems by name: `unreadable`, `unmatched` (line numbers), `duplicate` (the same answer again), `contradicting` (another
    answer for the same comment) and `gold_differs` (ids). Two test comments with one text take their answers in file order.
    """
    found = Imported()
    by_id = {record.id: record for record in records}
    by_comment: dict[str, list[str]] = defaultdict(list)
    for record in records:
        by_comment[record.comment.strip()].append(record.id)
    taken: Counter[str] = Counter()
    for number, raw in enumerate(data.splitlines(), start=1):
        if not raw.strip():
            continue
        row = _read_row(raw)
        if row is None:
            found.problems["unreadable"].append(f"line {number}")
            continue
        system, user = read_prompt(row["prompt"])
        custom_id = _find_id(row.get("metadata"), by_id) or _take_id(user, by_comment, taken)
        if custom_id is None:
            found.problems["unmatched"].append(f"line {number}")
            continue
        found.systems.add(system if user.removeprefix(COMMENT_PREFIX) != user else None)
        _keep(found, custom_id, to_valid_text(read_inference(row["inference"])))
        if _says_otherwise(row.get("gold"), by_id[custom_id]):
            found.problems["gold_differs"].append(custom_id)
    return found


def read_prompt(prompt: Any) -> tuple[str | None, str]:
    """Return the system turn, if there is one, and the last user turn of a prompt: messages, their text form, or plain text."""
    turns = _read_literal(prompt) if isinstance(prompt, str) else prompt
    if not isinstance(turns, list) or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return None, str(prompt).strip()
    texts = {
        role: [_join(turn.get("content")) for turn in turns if turn["role"] == role] for role in ("system", "user")
    }
    system = texts["system"][0] if texts["system"] else None
    return system, (texts["user"] or [""])[-1].strip()


def read_inference(inference: Any) -> str:
    """Return the answer: a text, or a list (also as text) that holds one text."""
    value = _read_literal(inference) if isinstance(inference, str) else inference
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0]
    return inference if isinstance(inference, str) else json.dumps(inference, ensure_ascii=False)


def identify_prompt(systems: set[str | None], ours: str) -> str | None:
    """Return the hash of prompts that are not this run's, or None if all of them are."""
    if systems == {ours}:
        return None
    return digest_json([IMPORTED, sorted(system or "" for system in systems)])


def check_complete(found: Imported, asked: Sequence[VocRecord], uri: str) -> None:
    """Make sure that every comment has one answer.

    Raises:
        CoverageError: With everything that was found.
    """
    missing = [record.id for record in asked if record.id not in found.answers]
    named = {"missing": missing, **found.problems} if missing else dict(found.problems)
    if missing or found.problems.get("contradicting") or found.problems.get("unreadable"):
        listed = [f"{len(names)} {name} ({list_few(names)})" for name, names in named.items()]
        raise CoverageError(
            f"{uri} cannot be imported:\n  - " + "\n  - ".join(listed),
            expected=f"one answer for each of {len(asked)} test comments",
            remedy="put the id into the metadata of the service's evaluation set, or export its outputs again",
        )


def _keep(found: Imported, custom_id: str, text: str) -> None:
    if custom_id not in found.answers:
        found.answers[custom_id] = text
    else:
        kind = "duplicate" if found.answers[custom_id] == text else "contradicting"
        found.problems[kind].append(custom_id)


def _read_row(raw: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and all(row.get(key) is not None for key in _KEYS) else None


def _find_id(metadata: Any, by_id: Mapping[str, VocRecord]) -> str | None:
    value = metadata
    if isinstance(metadata, str) and metadata not in by_id:
        value = _read_literal(metadata)
    named = [value.get(key) for key in ID_KEYS] if isinstance(value, dict) else [value]
    return next((str(name) for name in named if name is not None and str(name) in by_id), None)


def _take_id(user: str, by_comment: Mapping[str, Sequence[str]], taken: Counter[str]) -> str | None:
    """Return the next id of the comment that a user turn ends with."""
    for text in (user, user.rpartition(COMMENT_PREFIX)[2].strip()):
        if text in by_comment:
            ids = by_comment[text]
            number = min(taken[text], len(ids) - 1)  # more answers than comments: the last one gets a duplicate
            taken[text] += 1
            return ids[number]
    return None


def _says_otherwise(gold: Any, record: VocRecord) -> bool:
    if gold is None:
        return False
    parsed = parse_response(read_inference(gold))
    return bool(parsed.failure) or {s.label for s in parsed.segments} != {s.label for s in record.segments}


def _join(content: Any) -> str:
    """Return the text of a turn: a text, or Converse's blocks."""
    if isinstance(content, list):
        return "".join(str(block.get("text", "")) for block in content if isinstance(block, dict))
    return str(content)


def _read_literal(text: str) -> Any:
    """Return the value of a JSON text or of a Python literal, which the service writes too; else None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
