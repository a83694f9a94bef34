"""Prepare a run's data and every arm's samples: `python -m training prepare`.

Reads the taxonomy, the test set and the sources that the configuration names. Writes the run's data directory (`taxonomy.csv`,
`test.jsonl`, `rows/` with the accepted rows and `tokens/` with their tokens by source and part, `quarantine.jsonl`,
`overlaps.jsonl`, `dropped.jsonl`, `data_report.json`, `data_card.html`), `validation/` (the rows that were held out), each
arm's `mixture.json` and `samples/`, and `models.json`; a directory's manifest is written last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from corpus.build import Reading, build_corpus, list_stored_files, read_inputs, read_records
from corpus.ground.results import DataFacts, DataReport
from corpus.ground.stored_file import store_text
from corpus.ground.tasks import MapParts
from corpus.mixing.arms import SAMPLES_VERSION, plan_arm, write_arm
from corpus.mixing.held_out import Corpus, write_held_out
from corpus.report.card import render_card
from corpus.report.data_report import build_report, list_dropped
from corpus.report.mix_table import format_mix
from voc.labels.taxonomy import format_taxonomy
from voc.run import Run, list_models, write_models
from voc.store.manifest import Manifest, digest_json, is_finished, write_manifest


def prepare(run: Run, map_parts: MapParts) -> None:
    """Prepare a run's data, unless it was prepared from the same inputs.

    Args:
        run: The run.
        map_parts: Runs one task per part of the data.

    Raises:
        DataError: If a file is missing or empty, too much of it was refused, or it holds what the models are judged by.
        ModelError: If the base cannot be trained.
        MixtureError: If an arm's mixture cannot be drawn.
    """
    config, layout = run.config, run.layout
    reading = read_inputs(config, run.store, map_parts, data_prefix=layout.data)
    if is_finished(run.store, layout.data, reading.inputs):
        print(f"the data of {layout.run_id} is prepared already, from the same inputs", flush=True)
        return
    run.store.delete_prefix(layout.data)
    run.store.delete_prefix(layout.validation)
    corpus = build_corpus(reading, config, run.store.uri, layout.data, map_parts)
    plans = [plan_arm(arm, config.training, corpus.usable, config.seed) for arm in config.arms]
    report = build_report(corpus, plans, reading.taxonomy, config.training.max_seq_len)
    if corpus.held_out:
        inputs = {"version": SAMPLES_VERSION, "data": digest_json(reading.inputs)}
        write_held_out(corpus.held_out, corpus.usable, run.store, layout.validation, inputs=inputs)
    for plan in plans:
        run.store.write_bytes(layout.mixture(plan.name), _to_json(plan.to_json()))
        inputs = {"version": SAMPLES_VERSION, "data": digest_json(reading.inputs), "arm": plan.name}
        write_arm(plan, corpus.usable, run.store, layout.samples(plan.name), inputs=inputs, map_parts=map_parts)
    write_models(run, list_models(run, reading.base.digest))
    manifest = _commit(run, reading, corpus, report)
    print(format_mix(report), flush=True)
    print(f"data prepared, digest {manifest.digest[:12]}", flush=True)


def _commit(run: Run, reading: Reading, corpus: Corpus, report: DataReport) -> Manifest:
    """Write what people and later stages read, then the manifest over all files of the data directory."""
    store, prefix = run.store, run.layout.data
    card = render_card(report, title=f"Data of {run.config.name}", generated_for=run.layout.run_id)
    texts = {
        "taxonomy.csv": format_taxonomy(reading.taxonomy.leaves),
        "data_report.json": _to_json(report).decode(),
        "data_card.html": card,
    }
    lines = {"test.jsonl": read_records(corpus.test), "dropped.jsonl": list_dropped(corpus)}
    files = [*list_stored_files(corpus.all_sources), *corpus.lists]
    files += [store_text(store.uri, prefix, name, [text]) for name, text in texts.items()]
    files += [store_text(store.uri, prefix, name, (f"{row}\n" for row in rows)) for name, rows in lines.items()]
    facts: DataFacts = {
        "rows": {source.name: source.num_rows for source in corpus.all_sources},
        "watermarks": reading.new_watermarks,
        "read_after": dict(reading.watermarks),
    }
    manifest = Manifest(
        tuple(sorted((file.entry for file in files), key=lambda entry: entry.path)), reading.inputs, dict(facts)
    )
    write_manifest(store, prefix, manifest)
    return manifest


def _to_json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()
