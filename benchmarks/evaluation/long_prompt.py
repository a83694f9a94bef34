"""The prompt with all labels on a real engine: what one prompt computed first, and structured output, make of it.

    python -m benchmarks.long_prompt [--comments 24] [--threads 2]

The study corpus (1,420 leaves), prompt variant `taxonomy`, a random Qwen3 of two narrow layers with a tokenizer made from the
corpus, and our VOC suite as a night runs it, each side on an engine of its own:

- `primed`: prefix cache, the shared prefix computed once before the wave (`evaluation.suites.voc.ask`);
- `cold`: no prefix cache, as many comments as `--cold-comments`: every prompt is computed whole;
- `structured`: as `primed`, answers constrained to the 1,420 leaves.

Prints a table; the last line is one JSON object. `hit_ratio` is of the rows after the first one, from what the engine says per
request; `engine_hit_ratio` from its own counters over the suite. `valid` counts complete answers that the schema allows, `cut`
those that the limit of tokens ended: a random model seldom ends.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from benchmarks.evaluation.served import serving
from evaluation.serving.endpoint import KEY_VARIABLE, write_endpoint
from evaluation.shards.shard import Shard
from evaluation.suites.voc.ask import SUITE, evaluate_voc, prime_prompts
from evaluation.suites.voc.schema import build_response_format
from evaluation.suites.voc.suite import FILE_NAME
from tests.tiny_model import make_tiny_model
from voc.config.file import check_config, dump_config
from voc.labels.taxonomy import parse_taxonomy
from voc.prompts import render_system
from voc.run import ModelEntry, Run, write_models
from voc.store.layout import RunLayout
from voc.store.local import LocalStore
from voc.store.manifest import commit_folder, read_manifest
from voc.text_table import format_columns

MODEL = "m"
CONTEXT_TOKENS = 65_536
PROMPT_RANGE = (35_000, 60_000)
VOCAB_SIZE = 4_096
MAX_TOKENS = 64
SIDES = ("primed", "cold", "structured")

Figures = dict[str, Any]


def make_corpus(folder: Path) -> Path:
    """Write the study corpus."""
    command = [sys.executable, "-m", "demo", "study-corpus", "--output", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def make_model(folder: Path, corpus: Path) -> Path:
    """Write a random model whose tokenizer is made from the corpus' labels and comments."""
    taxonomy = parse_taxonomy((corpus / "taxonomy.csv").read_text(encoding="utf-8"), "taxonomy.csv")
    rows = (corpus / "train.jsonl").read_text(encoding="utf-8").splitlines()[:5000]
    texts = [render_system("taxonomy", taxonomy), *(json.loads(row)["comment"] for row in rows)]
    return make_tiny_model(
        folder,
        texts,
        hidden_size=64,
        head_dim=32,  # the CPU build's attention has no 16
        vocab_size=VOCAB_SIZE,
        max_position_embeddings=CONTEXT_TOKENS,
    )


def make_run(root: Path, corpus: Path, model: Path, *, comments: int, structured: bool, threads: int) -> Run:
    """Write a run with the corpus as its test set, ready to be served and asked."""
    tree = {
        "name": "long-prompt",
        "store": {"uri": root.as_uri()},
        "data": {"taxonomy": "t", "test": "t", "sources": [{"name": "customer", "uri": "c", "format": "voc"}]},
        "model": {"base": str(model)},
        "arms": [{"name": "a", "title": "A", "sources": [{"name": "customer", "weight": 1}]}],
        "training": {
            "max_steps": 1,
            "global_batch_size": 1,
            "max_seq_len": 64,
            "optimizer": {"learning_rate": 0.001},
        },
        "prompt": {"variant": "taxonomy"},
        "serving": {
            "max_model_len": CONTEXT_TOKENS,
            "max_num_batched_tokens": 8192,
            "dtype": "float32",
            "kv_cache_gib": 1.0,
            "enforce_eager": True,
            "omp_num_threads": threads,
        },
        "evaluation": {
            "cache": False,
            "voc": {"max_tokens": MAX_TOKENS, "limit": comments, "structured_output": structured},
            "mmlu": {"dataset": "none"},
        },
    }
    run = Run(LocalStore(root), RunLayout("r"), check_config(tree, "benchmark"))
    run.store.write_bytes(run.layout.config, dump_config(run.config))
    digest = commit_folder(LocalStore(model.parent), model.name, model).digest
    write_models(run, [ModelEntry(MODEL, "reference", MODEL, str(model), digest)])
    for name in ("taxonomy.csv", "test.jsonl"):
        run.store.write_bytes(f"{run.layout.data}/{name}", (corpus / name).read_bytes())
    return run


def run_side(side: str, run: Run, model: Path, key: str) -> Figures:
    """Serve the model, ask all comments of the run, and return the figures."""
    entry_digest = commit_folder(LocalStore(model.parent), model.name, model).digest
    extra = ["--no-enable-prefix-caching"] if side == "cold" else []
    with serving(model, MODEL, key, run.config.serving, entry_digest, extra=extra) as (endpoint, _):
        write_endpoint(run, MODEL, endpoint)
        start = time.monotonic()
        if side != "cold":
            prime_prompts(run, endpoint)
        primed = time.monotonic()
        evaluate_voc(run, MODEL, Shard(0, 1))
        end = time.monotonic()
    return {"prime_s": round(primed - start, 2), "suite_s": round(end - primed, 2), **read_shard(run)}


def read_shard(run: Run) -> Figures:
    """Return what the finished shard says."""
    prefix = run.layout.shard(MODEL, SUITE, 0, 1)
    manifest = read_manifest(run.store, prefix)
    if manifest is None:
        raise RuntimeError(f"{prefix} was not finished")
    lines = [json.loads(line) for line in run.store.read_bytes(f"{prefix}/{FILE_NAME}").splitlines()]
    taxonomy = parse_taxonomy(run.store.read_bytes(f"{run.layout.data}/taxonomy.csv").decode(), "taxonomy.csv")
    schema = build_response_format(taxonomy)["json_schema"]["schema"]
    facts = manifest.facts
    return {
        "rows": len(lines),
        "prompt_tokens": [min(line["usage"]["prompt_tokens"] for line in lines), facts["prompt_tokens"]],
        "completion_tokens": facts["completion_tokens"],
        "hit_ratio": (facts["prefix_cache"] or {}).get("hit_ratio"),
        "engine_hit_ratio": (facts["engine_prefix_cache"] or {}).get("hit_ratio"),
        "cut": sum(line["finish_reason"] == "length" for line in lines),
        "valid": sum(is_allowed(line["text"], schema) for line in lines),
    }


def is_allowed(text: str, schema: Mapping[str, Any]) -> bool:
    """Tell whether a complete answer is one that the schema allows."""
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def format_sides(sides: Mapping[str, Figures]) -> str:
    """Return the table."""
    names = (
        "rows",
        "prime_s",
        "suite_s",
        "row_s",
        "hit_ratio",
        "engine_hit_ratio",
        "completion_tokens",
        "valid",
        "cut",
    )
    return format_columns([["", *names], *([side, *(_show(f[n]) for n in names)] for side, f in sides.items())])


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comments", type=int, default=24)
    parser.add_argument("--cold-comments", type=int, default=4, help="comments of the side without a prefix cache")
    parser.add_argument("--threads", type=int, default=2, help="OpenMP threads of the engine")
    parser.add_argument("--sides", choices=SIDES, nargs="+", default=SIDES)
    arguments = parser.parse_args(argv)
    key, load, sides = secrets.token_hex(16), [os.getloadavg()[0]], {}
    os.environ[KEY_VARIABLE] = key
    with tempfile.TemporaryDirectory(prefix="nightforge-long-prompt-") as name:
        folder = Path(name)
        corpus = make_corpus(folder / "corpus")
        model = make_model(folder / "model", corpus)
        for side in arguments.sides:
            num = arguments.cold_comments if side == "cold" else arguments.comments
            options = {"comments": num, "structured": side == "structured", "threads": arguments.threads}
            figures = run_side(side, make_run(folder / side, corpus, model, **options), model, key)
            sides[side] = {**figures, "row_s": round((figures["prime_s"] + figures["suite_s"]) / figures["rows"], 3)}
            print(f"{side}: {sides[side]}", flush=True)
            load.append(os.getloadavg()[0])
            shortest = figures["prompt_tokens"][0]
            if not PROMPT_RANGE[0] <= shortest <= PROMPT_RANGE[1]:
                raise ValueError(f"a prompt of {shortest} tokens. Expected: {PROMPT_RANGE}. To do: change VOCAB_SIZE.")
    print(format_sides(sides))
    print(json.dumps({"threads": arguments.threads, "leaves": 1420, "sides": sides, "load_1min": load}))


if __name__ == "__main__":
    main()
