"""A small run whose base model is served by the stand-in: what the suites need, without a model."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.serving.endpoint import Endpoint, write_endpoint
from voc.config.file import check_config
from voc.run import ModelEntry, Run, list_external_entries, write_models
from voc.store.layout import RunLayout
from voc.store.local import LocalStore

DIGEST = "d" * 64
LABEL = {"L1": "Product", "L2": "Battery", "L3": "Life", "L4": "Short"}


def make_run(root, *, serving=None, voc=None, mmlu=None, external=None, prompt=None):
    tree = {
        "name": "served",
        "store": {"uri": str(root)},
        "data": {"taxonomy": "t", "test": "t", "sources": [{"name": "customer", "uri": "c", "format": "voc"}]},
        "model": {"base": str(root / "base")},
        "arms": [{"name": "a", "title": "A", "sources": [{"name": "customer", "weight": 1}]}],
        "training": {
            "max_steps": 1,
            "global_batch_size": 1,
            "max_seq_len": 64,
            "optimizer": {"learning_rate": 0.001},
        },
        "external_models": external or {},
        "prompt": {"variant": prompt or "internalized"},
        "serving": {"max_model_len": 512, **(serving or {})},
        "evaluation": {"voc": voc or {}, "mmlu": {"dataset": str(root / "mmlu"), **(mmlu or {})}},
    }
    run = Run(LocalStore(root / "store"), RunLayout("r1"), check_config(tree, "test"))
    base = ModelEntry("base", "reference", "base", str(root / "base"), DIGEST)
    write_models(run, [base, *list_external_entries(run.config.external_models)])
    return run


def write_test_set(run, num):
    row = ",".join([*LABEL.values(), "it is short"])
    run.store.write_bytes(f"{run.layout.data}/taxonomy.csv", f"L1,L2,L3,L4,description\n{row}\n".encode())
    lines = [
        {"id": f"c{i}", "comment": f"comment {i}", "segments": [{"content": "comment", **LABEL, "emotion": "sad"}]}
        for i in range(num)
    ]
    run.store.write_bytes(f"{run.layout.data}/test.jsonl", "".join(json.dumps(x) + "\n" for x in lines).encode())


def write_questions(folder, num):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "question": f" What is {i}?",
            "subject": f"high_school_{i % 2}",
            "choices": [f"v{i}{c}" for c in "abcd"],
            "answer": i % 4,
        }
        for i in range(num)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "test.parquet")
    pq.write_table(pa.Table.from_pylist(rows[:10]), folder / "dev.parquet")


def announce(run, stand_in, digest=DIGEST):
    endpoint = Endpoint(stand_in.url, stand_in.model, digest, "stand-in 0", "2026-01-01T00:00:00+00:00")
    write_endpoint(run, "base", endpoint)
    return endpoint
