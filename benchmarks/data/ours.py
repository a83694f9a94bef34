"""Our side of `benchmarks.data.vs_datasets`: read, validate, render, tokenise, pack, write.

The stages of `prepare` without those that the peer has no counterpart for: duplicates, contamination and the data card.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.study.rows import GENERAL_FILE, TAXONOMY_FILE, VOC_FILE
from corpus.build import Reading, ingest_all
from corpus.encoding.base_model import open_base
from corpus.ground.tasks import MapParts, TaskRunner
from corpus.mixing.arms import lay_out_rows, read_lengths, write_arm
from corpus.mixing.draw import plan_draw
from corpus.mixing.packing import plan_packing
from corpus.parts.ingest import IngestSettings
from corpus.parts.source_rows import Source, UsableRows, choose_usable
from corpus.sources.splits import list_splits
from voc.config.arms import SourceWeight
from voc.config.data import DataConfig, SourceConfig
from voc.labels.taxonomy import parse_taxonomy
from voc.store.base import Store
from voc.store.local import LocalStore

ROWS_PER_STEP = 64


def ingest(
    rows: Path, base_folder: Path, store: Store, seq_len: int, map_parts: MapParts
) -> tuple[list[Source], dict[str, UsableRows]]:
    """Read, validate, render and tokenise JSONL; return the sources, and their accepted rows by name."""
    taxonomy = parse_taxonomy((rows / TAXONOMY_FILE).read_text(encoding="utf-8"), TAXONOMY_FILE)
    base = open_base(str(base_folder), max_seq_len=seq_len, digest="benchmark")
    sources = (
        SourceConfig(name="customer", uri=str(rows / VOC_FILE), format="voc"),
        SourceConfig(name="general", uri=str(rows / GENERAL_FILE), format="general"),
    )
    data = DataConfig(taxonomy=TAXONOMY_FILE, test="unused", sources=sources)
    listed = tuple((source, list_splits(source, watermark=None)) for source in sources)
    reading = Reading(taxonomy, None, base, listed, {}, {})
    settings = IngestSettings(
        store.uri, "data", data, taxonomy, None, base.uri, base.digest, seq_len, "internalized", 0
    )
    read = list(ingest_all(reading, settings, map_parts))
    return read, choose_usable(read, {})


def build(rows: Path, base_folder: Path, output: Path, seq_len: int, map_parts: MapParts) -> dict[str, object]:
    """Turn JSONL into packed shards in training order and return what was made."""
    store = LocalStore(output)
    read, usable = ingest(rows, base_folder, store, seq_len, map_parts)
    weights = [SourceWeight(name=source.name, weight=source.num_rows) for source in read]
    num_rows = sum(source.num_rows for source in read)
    figures = {name: rows.figures for name, rows in usable.items()}
    plan = plan_draw(figures, weights, unit="samples", num_samples=num_rows, seed=0)
    packing = plan_packing(read_lengths(plan, usable), seq_len)
    arm = lay_out_rows("all", plan, packing, -(-packing.num_rows // ROWS_PER_STEP))
    write_arm(arm, usable, store, "samples", inputs={}, map_parts=map_parts)
    refused: dict[str, int] = {}
    for source in read:
        for reason, count in source.count("refused").items():
            refused[reason] = refused.get(reason, 0) + count
    return {
        "rows": sum(source.num_read for source in read),
        "packed": int(packing.num_rows),
        "tokens": int(sum(np.sum(source.lengths, dtype=np.int64) for source in read)),
        "assistant_tokens": int(sum(source.statistics.assistant_tokens for source in read)),
        "efficiency": round(packing.efficiency, 4),
        "refused": dict(sorted(refused.items())),
        "cut_rows": 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--on-ray", action="store_true", help="on Ray, however few the parts")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    started = psutil.Process().create_time()
    start = time.time()
    with TaskRunner(on_ray=arguments.on_ray) as runner:
        figures = build(arguments.rows, arguments.base, arguments.output, arguments.seq_len, runner)
        wall_s = time.time() - started
    stages_s = {"start": round(start - started, 2), "work": round(wall_s - start + started, 2)}
    print(json.dumps({**figures, "wall_s": round(wall_s, 2), "stages_s": stages_s}), flush=True)


if __name__ == "__main__":
    main()
