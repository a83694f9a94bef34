"""Nights for tests of `corpus.prepare`: a run of one arm and one source, and what it left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus.mixing.samples import Sample, SampleReader
from voc.run import Run
from voc.store.layout import RunLayout
from voc.store.manifest import verify_directory

MakeRun = Callable[..., Run]
ARM = "customer"
ONE_ARM = [{"name": ARM, "title": "customer only", "sources": [{"name": "customer", "weight": 1}]}]


def make_source(uri: Path | str, **settings: Any) -> dict[str, Any]:
    return {"name": "customer", "uri": str(uri), "format": "voc", **settings}


def make_night(make_run: MakeRun, source: dict[str, Any], *, name: str = "run", **settings: Any) -> Run:
    """Make a run of one arm and one source; `settings` change the data section, or replace a section of another name."""
    sections = {key: settings.pop(key) for key in ("store", "training", "arms", "seed") if key in settings}
    data = make_run("files").config.data.model_dump(mode="json") | {"sources": [source], **settings}
    return make_run(name, data=data, **{"arms": ONE_ARM, **sections})


def read_report(run: Run) -> dict[str, Any]:
    return json.loads(run.store.read_bytes(f"{run.layout.data}/data_report.json"))


def read_lines(run: Run, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.store.read_bytes(f"{run.layout.data}/{name}").splitlines()]


def read_steps(run: Run, arm: str = ARM) -> list[list[Sample]]:
    prefix = run.layout.samples(arm)
    manifest = verify_directory(run.store, prefix)
    reader = SampleReader(run.store, prefix, manifest)
    return [reader.read_step(step) for step in range(reader.num_steps)]


def list_samples(run: Run, arm: str = ARM) -> list[tuple[int, int, list[int], list[bool]]]:
    return [
        (step, sample.source_row, sample.input_ids.tolist(), sample.learned.tolist())
        for step, samples in enumerate(read_steps(run, arm))
        for sample in samples
    ]


def to_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def start_next_night(run: Run, name: str) -> Run:
    return Run(run.store, RunLayout(name), run.config)
