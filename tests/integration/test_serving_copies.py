"""Two copies of the weights behind one address, by vLLM's own data parallelism, on the CPU build."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.evaluation.served import serving
from evaluation.serving.endpoint import KEY_VARIABLE, get_text, write_endpoint
from evaluation.shards.shard import Shard
from evaluation.suites.voc.ask import evaluate_voc
from tests.tiny_model import make_tiny_model
from tests.unit.evaluation.served_run import DIGEST, make_run, write_test_set
from voc.run import ModelEntry, write_models
from voc.store.manifest import read_manifest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

KEY = "the-key-of-the-copies"
NUM_COMMENTS, NUM_LABELS = 20, 60
ANSWERED = re.compile(r'^vllm:request_success_total\{engine="(\d)",[^}]*\} (\S+)$', re.MULTILINE)


def test_both_copies_answer_and_each_is_primed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    make_tiny_model(tmp_path / "base", hidden_size=64, head_dim=32, max_position_embeddings=8192)
    settings = {
        "max_model_len": 8192,
        "data_parallel_size": 2,
        "dtype": "float32",
        "kv_cache_gib": 0.1,
        "enforce_eager": True,
        "omp_num_threads": 1,
    }
    run = make_run(tmp_path, serving=settings, voc={"max_tokens": 8}, prompt="taxonomy")
    write_models(run, [ModelEntry("a", "candidate", "A", str(tmp_path / "base"), DIGEST)])
    write_test_set(run, NUM_COMMENTS)
    rows = [f"Product,Battery,Life,Short{n},it is short number {n}" for n in range(NUM_LABELS)]
    table = "\n".join(["L1,L2,L3,L4,description", "Product,Battery,Life,Short,it is short", *rows]) + "\n"
    run.store.write_bytes(f"{run.layout.data}/taxonomy.csv", table.encode())
    with serving(tmp_path / "base", "a", KEY, run.config.serving, DIGEST) as (endpoint, _):
        write_endpoint(run, "a", endpoint)
        evaluate_voc(run, "a", Shard(0, 1))
        page = get_text(f"{endpoint.url.removesuffix('/v1')}/metrics")
    answered: dict[str, float] = {}
    for engine, count in ANSWERED.findall(page):
        answered[engine] = answered.get(engine, 0.0) + float(count)
    assert answered.keys() == {"0", "1"}
    assert sum(answered.values()) == NUM_COMMENTS
    assert min(answered.values()) > 0
    manifest = read_manifest(run.store, run.layout.shard("a", "voc", 0, 1))
    assert manifest is not None
    hits = manifest.facts["prefix_cache"]
    assert (hits["primers"], hits["rows"]) == (2, NUM_COMMENTS - 2)
    assert hits["hit_ratio"] >= 0.9
