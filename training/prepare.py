"""Read, check, encode and count the data of a run, and plan every arm's mixture: `python -m training prepare`.

Reads the taxonomy, the test set and the sources that the configuration names. Writes the run's data directory
(`taxonomy.csv`, `test.jsonl`, `<source>.jsonl` with the accepted rows, `<source>.npz` with their tokens and labels,
`quarantine.jsonl`, `data_report.json`), each arm's `mixture.json` and `models.json`; the manifest last.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.base_model import BaseModel, open_base
from corpus.encode import EncodedSample, SampleEncoder
from training.data import EncodedSource, collect_samples, save_encoded
from training.data_report import build_report
from voc.champion import read_champion
from voc.config import ArmConfig, NightforgeConfig, SourceConfig
from voc.manifest import Manifest, commit_folder, digest_bytes, is_finished
from voc.mixture import MixturePlan, Stratum, draw_order, plan_mixture, plan_token_mixture
from voc.model_folder import digest_model
from voc.progress import Progress
from voc.prompts import hash_prompt
from voc.records import (
    Accepted,
    GeneralRecord,
    Rejection,
    VocRecord,
    check_quarantine,
    make_voc_parser,
    parse_general_record,
    read_rows,
    read_voc_rows,
)
from voc.run import ModelEntry, Run, write_models
from voc.store import read_uri
from voc.taxonomy import Taxonomy, format_taxonomy, parse_taxonomy

Record = VocRecord | GeneralRecord
PREPARATION_VERSION = 1


@dataclass(frozen=True)
class PreparedSource:
    """One source after filtering.

    Attributes:
        config: Where it came from.
        records: Accepted rows, in file order.
        rejections: Refused rows.
        encoded: Tokens and labels of the accepted rows.
    """

    config: SourceConfig
    records: tuple[Record, ...]
    rejections: tuple[Rejection, ...]
    encoded: EncodedSource


def prepare(run: Run) -> None:
    """Prepare a run's data, unless it was prepared from the same inputs.

    Raises:
        DataError: If a file is missing, empty, or too much of it was refused.
        ModelError: If the base cannot be trained.
        MixtureError: If an arm's mixture cannot be drawn.
    """
    config, layout = run.config, run.layout
    files = _read_files(config)
    taxonomy = parse_taxonomy(files[config.data.taxonomy].decode(), config.data.taxonomy)
    base = open_base(config.model.base, max_seq_len=config.training.max_seq_len)
    inputs = _describe_inputs(config, taxonomy, base, files)
    if is_finished(run.store, layout.data, inputs):
        print(f"the data of {layout.run_id} is prepared already, from the same inputs", flush=True)
        return
    test = read_voc_rows(files[config.data.test], taxonomy)
    check_quarantine(test, config.data.test, config.data.max_quarantine_ratio)
    encoder = SampleEncoder(
        base, max_seq_len=config.training.max_seq_len, variant=config.prompt.variant, taxonomy=taxonomy
    )
    sources = {
        source.name: prepare_source(
            source,
            files[source.uri],
            encoder,
            max_quarantine_ratio=config.data.max_quarantine_ratio,
        )
        for source in config.data.sources
    }
    report = build_report(test, {s.config.name: (s.records, s.rejections, s.encoded) for s in sources.values()})
    for arm in config.arms:
        document = describe_mixture(arm, plan_arm(arm, config, sources), sources)
        run.store.write_bytes(layout.mixture(arm.name), _to_json(document))
    write_models(run, list_models(run, base.digest))
    with tempfile.TemporaryDirectory(prefix="nightforge-data-") as name:
        folder = Path(name)
        (folder / "taxonomy.csv").write_text(format_taxonomy(taxonomy.leaves), encoding="utf-8")
        (folder / "data_report.json").write_bytes(_to_json(report))
        _write_rows(folder, test, config.data.test, sources)
        facts = {"rows": {name: part["rows"] for name, part in report["files"].items()}}
        manifest = commit_folder(run.store, layout.data, folder, inputs=inputs, facts=facts)
    _print_report(report, manifest)


def prepare_source(
    source: SourceConfig, data: bytes, encoder: SampleEncoder, *, max_quarantine_ratio: float
) -> PreparedSource:
    """Check and encode the rows of one source.

    Raises:
        DataError: If too much of it was refused.
    """
    progress = Progress(f"encode {source.name}", data.count(b"\n"), "rows")
    parse, encode = _choose_parser(source, encoder)

    def parse_and_encode(value: dict[str, Any]) -> tuple[Record, EncodedSample]:
        progress.advance()
        record = parse(value)
        return record, encode(record)

    accepted = read_rows(data, parse_and_encode)
    progress.finish(accepted=len(accepted.rows), refused=len(accepted.rejections))
    check_quarantine(accepted, source.uri, max_quarantine_ratio)
    records = tuple(record for record, _ in accepted.rows)
    return PreparedSource(source, records, accepted.rejections, collect_samples(sample for _, sample in accepted.rows))


def plan_arm(arm: ArmConfig, config: NightforgeConfig, sources: Mapping[str, PreparedSource]) -> MixturePlan:
    """Plan what an arm draws: every arm takes the same number of samples."""
    num_samples = config.training.max_steps * config.training.global_batch_size
    if arm.unit == "tokens":
        tokens = {source.name: sources[source.name].encoded.lengths.tolist() for source in arm.sources}
        return plan_token_mixture(tokens, arm.sources, num_samples=num_samples, seed=config.seed)
    rows = {Stratum(source.name): len(sources[source.name].records) for source in arm.sources}
    return plan_mixture(rows, arm.sources, num_samples=num_samples, seed=config.seed)


def describe_mixture(arm: ArmConfig, plan: MixturePlan, sources: Mapping[str, PreparedSource]) -> dict[str, Any]:
    """Return what `mixture.json` holds: the plan, and what it amounts to in tokens and learned tokens."""
    document = plan.to_json()
    lengths = [sources[share.name].encoded.lengths for share in plan.shares]
    targets = [sources[share.name].encoded.num_targets for share in plan.shares]
    drawn = [{"tokens": 0, "learned_tokens": 0} for _ in plan.shares]
    for source, row in draw_order(plan):
        drawn[source]["tokens"] += int(lengths[source][row])
        drawn[source]["learned_tokens"] += int(targets[source][row])
    document["arm"] = arm.name
    for name in ("tokens", "learned_tokens"):
        total = sum(entry[name] for entry in drawn)
        for share, entry in zip(document["sources"], drawn, strict=True):
            share[f"drawn_{name}"] = entry[name]
            share[f"drawn_{name}_ratio"] = entry[name] / total
    return document


def list_models(run: Run, base_digest: str) -> list[ModelEntry]:
    """Return what this run evaluates: base, the champion if it is another model, the arms, the extra models."""
    config, store = run.config, run.store
    models = [ModelEntry("base", "reference", "base", config.model.base, base_digest)]
    champion = read_champion(store)
    if champion is not None and champion.model_digest != base_digest:
        models.append(ModelEntry("champion", "reference", "champion", champion.model_uri, champion.model_digest))
    models += [
        ModelEntry(arm.name, "candidate", arm.title, f"{store.uri}/{run.layout.export(arm.name)}", None)
        for arm in config.arms
    ]
    models += [
        ModelEntry(extra.name, "candidate", extra.title, extra.uri, digest_model(extra.uri))
        for extra in config.extra_models
    ]
    return models


def _read_files(config: NightforgeConfig) -> dict[str, bytes]:
    uris = [config.data.taxonomy, config.data.test, *(source.uri for source in config.data.sources)]
    return {uri: read_uri(uri) for uri in uris}


def _describe_inputs(
    config: NightforgeConfig, taxonomy: Taxonomy, base: BaseModel, files: Mapping[str, bytes]
) -> dict[str, Any]:
    training = config.training
    return {
        "version": PREPARATION_VERSION,
        "taxonomy": taxonomy.digest,
        "test": digest_bytes(files[config.data.test]),
        "sources": [[s.name, s.format, digest_bytes(files[s.uri])] for s in config.data.sources],
        "prompt": hash_prompt(config.prompt.variant, taxonomy),
        "base": base.digest,
        "max_seq_len": training.max_seq_len,
        "arms": [arm.model_dump(mode="json") for arm in config.arms],
        "num_samples": training.max_steps * training.global_batch_size,
        "seed": config.seed,
    }


def _choose_parser(
    source: SourceConfig, encoder: SampleEncoder
) -> tuple[Callable[[dict[str, Any]], Any], Callable[[Any], EncodedSample]]:
    if source.format == "voc":
        return make_voc_parser(encoder.taxonomy), encoder.encode_voc
    return parse_general_record, encoder.encode_general


def _write_rows(folder: Path, test: Accepted[VocRecord], test_uri: str, sources: Mapping[str, PreparedSource]) -> None:
    _write_lines(folder / "test.jsonl", (record.to_json() for record in test.rows))
    refused = [(test_uri, rejection) for rejection in test.rejections]
    for source in sources.values():
        name = source.config.name
        _write_lines(folder / f"{name}.jsonl", (record.to_json() for record in source.records))
        save_encoded(source.encoded, folder / f"{name}.npz")
        refused += [(source.config.uri, rejection) for rejection in source.rejections]
    _write_lines(folder / "quarantine.jsonl", ({"file": uri, **entry.to_json()} for uri, entry in refused))


def _write_lines(path: Path, documents: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)


def _to_json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def _print_report(report: Mapping[str, Any], manifest: Manifest) -> None:
    for name, part in report["files"].items():
        refused = ", ".join(f"{reason} {count}" for reason, count in part["refused"].items()) or "none"
        tokens = f", {part['tokens']} tokens, {part['learned_tokens']} learned" if "tokens" in part else ""
        print(f"{name}: {part['rows']} rows{tokens}, refused: {refused}", flush=True)
    if report["test_comments_in_training"]:
        print(f"warning: {report['test_comments_in_training']} test comments are in the training data too", flush=True)
    print(f"data prepared, digest {manifest.digest[:12]}", flush=True)
