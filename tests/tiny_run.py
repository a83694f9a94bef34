"""A run of the smallest size: a few comments and general rows, a tiny base, two arms; for tests that start stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from voc.config.file import check_config, dump_config
from voc.labels.taxonomy import Leaf, format_taxonomy
from voc.run import Run
from voc.store.layout import RunLayout
from voc.store.uri import open_store

LABELS = (("laptop", "battery", "life", "short"), ("laptop", "screen", "light", "bright"))
RUN_ID = "tiny"


def make_voc_row(number: int, words: int = 3) -> dict[str, Any]:
    """Return a comment of one segment; `words` sets its length."""
    label = LABELS[number % 2]
    comment = f"the {label[1]} of number {number} is {'very ' * words}{label[3]}"
    segment = {"content": comment, **dict(zip(("L1", "L2", "L3", "L4"), label, strict=True)), "emotion": "sad"}
    return {"id": f"c{number}", "comment": comment, "segments": [segment]}


def make_general_rows(count: int) -> list[dict[str, Any]]:
    """Return chats and plain continuations in turn."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        letter = "ABCD"[number % 4]
        if number % 2:
            rows.append({"prompt": f"Question {number}. A. red B. green\nAnswer:", "completion": f" {letter}"})
        else:
            turns = [("user", f"What is number {number}?"), ("assistant", f"The correct answer is ({letter}).")]
            rows.append({"messages": [{"role": r, "content": c} for r, c in turns], "category": "chat"})
    return rows


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def create_tiny_run(root: Path, base: Path, *, training: dict[str, Any] | None = None, **sections: Any) -> Run:
    """Write data files and a run's configuration below `root` and open the run.

    `training` changes settings of that section, `sections` replace whole sections; data files that exist are kept.
    """
    root.mkdir(parents=True, exist_ok=True)
    files = {
        "train.jsonl": [make_voc_row(n, n % 7) for n in range(40)],
        "test.jsonl": [make_voc_row(n) for n in range(100, 110)],
        "general.jsonl": make_general_rows(12),
    }
    for name, rows in files.items():
        if not (root / name).exists():
            write_lines(root / name, rows)
    _write_questions(root / "mmlu")
    (root / "taxonomy.csv").write_text(format_taxonomy(Leaf(label, "what it is") for label in LABELS))
    tree: dict[str, Any] = {
        "name": "tiny",
        "seed": 1,
        "store": {"uri": str(root / "store")},
        "data": {
            "taxonomy": str(root / "taxonomy.csv"),
            "test": str(root / "test.jsonl"),
            "sources": [
                {"name": "customer", "uri": str(root / "train.jsonl"), "format": "voc"},
                {"name": "general", "uri": str(root / "general.jsonl"), "format": "general"},
            ],
            # The rows are made from one sentence: nearly all are alike.
            "duplicates": {"near": "off", "exact": "report"},
        },
        "model": {"base": str(base)},
        "arms": [
            {"name": "customer", "title": "customer only", "sources": [{"name": "customer", "weight": 1}]},
            {
                "name": "mixed",
                "title": "75/25",
                "sources": [{"name": "customer", "weight": 75}, {"name": "general", "weight": 25}],
            },
        ],
        "training": {
            "max_steps": 4,
            "global_batch_size": 8,
            "max_seq_len": 384,
            "param_dtype": "float32",
            "checkpoint": {"every_steps": 2},
            "export": {"vllm_smoke": False},  # half a minute of vLLM's start
            "log_every_steps": 2,
            "optimizer": {"name": "muon", "learning_rate": 2.5e-3, "muon_learning_rate": 0.02, "warmup_steps": 1},
            **(training or {}),
        },
        "serving": {"max_model_len": 384},
        "evaluation": {"voc": {}, "mmlu": {"dataset": str(root / "mmlu")}},
        **sections,
    }
    config = check_config(tree, "tiny")
    run = Run(open_store(config.store.uri), RunLayout(RUN_ID), config)
    run.store.write_bytes(run.layout.config, dump_config(config))
    return run


def _write_questions(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    rows = [
        {
            "question": f"Which of these is item {n}?",
            "subject": "items",
            "choices": ["a", "b", "c", "d"],
            "answer": n % 4,
        }
        for n in range(8)
    ]
    for split in ("dev", "test"):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
