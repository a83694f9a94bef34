"""What one night says about one of its models, read back from the store to be compared with another night.

Reads: data/taxonomy.csv, data/test.jsonl, evaluation/<model>/results/, models.json, decision.json, the changes of the taxonomy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evaluation.gather import ITEMS_NAME
from evaluation.items import Items, read_items
from evaluation.results.decided import read_decision
from evaluation.results.gathered import read_results
from voc.errors import ConfigError, DataError, IntegrityError, TaxonomyError
from voc.labels.changes import TaxonomyChanges, parse_changes
from voc.labels.taxonomy import Taxonomy, parse_taxonomy
from voc.run import ModelEntry, Run, read_models
from voc.store.manifest import Manifest, digest_bytes, read_manifest, verify_directory
from voc.store.uri import read_uri


@dataclass(frozen=True, slots=True)
class Night:
    """What one run says about one of its models.

    Attributes:
        run_id: The run.
        model: The model's name in the run.
        model_digest: Manifest digest of the model that was measured.
        taxonomy: The labels of that night.
        items: Gold and predicted labels per test comment.
        comments: Text of every test comment by its id.
        asked: How the model was asked, as its row declares it: prompt variant and decoding.
    """

    run_id: str
    model: str
    model_digest: str
    taxonomy: Taxonomy
    items: Items
    comments: Mapping[str, str]
    asked: Mapping[str, Any] = field(default_factory=dict)


def choose_model(run: Run, name: str | None, option: str) -> ModelEntry:
    """Return the model that is meant: by its name, else the one the decision chose, else the only candidate.

    Raises:
        ConfigError: If there is no such model, or none is named and several are possible.
    """
    models = {model.name: model for model in read_models(run)}
    decision = read_decision(run) if name is None else None
    wanted = name or (decision["promoted"] if decision else None)
    candidates = [model for model in models.values() if model.role == "candidate"]
    if wanted is None and len(candidates) == 1:
        return candidates[0]
    if wanted not in models:
        seen = f"has no model {wanted!r}" if wanted else f"promoted none of its {len(candidates)} candidates"
        raise ConfigError(
            f"the run {run.layout.run_id!r} {seen}",
            expected=f"one of {', '.join(models)}",
            remedy=f"name it with {option}",
        )
    return models[wanted]


def read_night(run: Run, model: str) -> Night:
    """Read the labels, the test comments and one model's gathered items; of the data only these two files are read.

    Raises:
        IntegrityError: If something is missing or damaged, or the results were gathered from other data.
        DataError: If there are no test comments.
    """
    run_id, prefix, results = run.layout.run_id, run.layout.data, run.layout.results(model)
    if read_manifest(run.store, results) is None:
        raise IntegrityError(
            f"the run {run_id!r} has no results of {model!r} ({run.store.uri}/{results})",
            expected="a run whose models were evaluated and gathered",
            remedy=f"python -m evaluation gather --run-id {run_id}",
        )
    gathered = verify_directory(run.store, results)
    data = read_manifest(run.store, prefix) or verify_directory(run.store, prefix)
    if gathered.inputs.get("data") != data.digest:
        raise IntegrityError(
            f"{run.store.uri}/{results} was gathered from the data {gathered.inputs.get('data')}",
            expected=f"{data.digest}, the data of the run {run_id!r}",
            remedy="run the suites and gather again",
        )
    taxonomy = parse_taxonomy(_read_file(run, data, "taxonomy.csv").decode(), f"{prefix}/taxonomy.csv")
    records = map(json.loads, _read_file(run, data, "test.jsonl").splitlines())
    comments = {record["id"]: record["comment"] for record in records}
    items = read_items(run.store.read_bytes(f"{results}/{ITEMS_NAME}"))
    if not items.ids["voc"]:
        raise DataError(f"the run {run_id!r} has no test comments", expected="at least one")
    measured = read_results(run, model)
    return Night(
        run_id, model, measured["model"]["digest"], taxonomy, items, comments, _describe_asking(measured["voc"])
    )


def _describe_asking(voc: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row declares, without the hashes: those follow the taxonomy, which is what may differ."""
    decoding = {name: value for name, value in voc.get("decoding", {}).items() if name != "schema_hash"}
    return {"prompt_variant": voc["prompt"]["variant"], **decoding}


def _read_file(run: Run, manifest: Manifest, name: str) -> bytes:
    """Read one file of the data and compare it with its manifest; all of the data can be many GB."""
    key = f"{run.layout.data}/{name}"
    content = run.store.read_bytes(key)
    wanted = {entry.path: entry.sha256 for entry in manifest.files}.get(name)
    if digest_bytes(content) != wanted:
        raise IntegrityError(
            f"{run.store.uri}/{key} has SHA-256 {digest_bytes(content)}",
            expected=str(wanted),
            remedy="the file was damaged or changed after it was written: run the prepare stage again",
        )
    return content


def read_changes(run: Run, taxonomy: Taxonomy, uri: str | None) -> tuple[str | None, TaxonomyChanges | None]:
    """Read the changes that lead to the later taxonomy.

    Args:
        run: The later run; its configuration names the default.
        taxonomy: The later taxonomy.
        uri: Another file.

    Returns:
        Where the changes are and what they say; None twice if there are none.

    Raises:
        IntegrityError: If the run's own changes are no longer those that it read.
        TaxonomyError: If they cannot be read or do not lead to the taxonomy.
        ObjectNotFoundError: If the file is not there.
    """
    origin = uri or run.config.data.taxonomy_changes
    if origin is None:
        return None, None
    content = read_uri(origin)
    manifest = read_manifest(run.store, run.layout.data)
    read = manifest.inputs.get("taxonomy_changes") if manifest else None
    if uri is None and read not in {None, digest_bytes(content)}:
        raise IntegrityError(
            f"{origin} has SHA-256 {digest_bytes(content)}",
            expected=f"{read}, the changes that the run {run.layout.run_id!r} read",
            remedy="give the file as it was that night with --changes",
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"{origin} is not text: {error}", expected="JSONL in UTF-8") from error
    return origin, parse_changes(text, origin, taxonomy)
