"""One engine that all suites share against one engine per suite, one after another, on the same machine.

    python -m benchmarks.shared_engine [--comments 300] [--questions 300] [--threads 1] [--model FOLDER]

Real vLLM (CPU build), a random Qwen3 unless a model is given, three suites as the night runs them: VOC, MMLU by log-likelihood
and MMLU as chats, each a process of its own. The shared engine gets them at the same time. The other side starts an engine for
each suite, with the whole machine to itself, and ends it: what a pipeline does whose tools bring their own engine. Both sides
ask the same things; the result cache is off. The last line is one JSON object: per side wall seconds from the first start to
the last end, seconds of starts, and tokens (prompts and answers, as the engines counted them) per second of wall time with
and without the starts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.serving.endpoint import KEY_VARIABLE, Endpoint, get_text, read_endpoint
from tests.tiny_model import DEFAULT_TEXTS, make_tiny_model
from voc.config.file import check_config, dump_config
from voc.run import ModelEntry, Run, write_models
from voc.store.layout import RunLayout
from voc.store.local import LocalStore
from voc.store.manifest import commit_folder

MODEL = "m"
START_TIMEOUT_S = 600
SUITES = {
    "voc": ("voc",),
    "mmlu_log_likelihood": ("mmlu", "--protocol", "log_likelihood"),
    "mmlu_generative": ("mmlu", "--protocol", "generative"),
}
_TOKENS = re.compile(r"^vllm:(prompt|generation)_tokens_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
LABEL = {"L1": "Product", "L2": "Battery", "L3": "Life", "L4": "Short"}


@dataclass(frozen=True, slots=True)
class Served:
    """What one engine took.

    Attributes:
        start_s: From its command to its first healthy answer.
        suites_s: From the first suite's start to the last one's end.
        wall_s: From its command until it was gone.
        tokens: Prompt and answer tokens that it counted.
    """

    start_s: float
    suites_s: float
    wall_s: float
    tokens: float


def make_run(root: Path, model: Path, *, comments: int, questions: int, threads: int) -> Run:
    """Write a run with its data, ready to be served and asked."""
    tree = {
        "name": "shared-engine",
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
        "serving": {
            "max_model_len": 1024,
            "max_num_batched_tokens": 2048,
            "dtype": "float32",
            "kv_cache_gib": 0.25,
            "enforce_eager": True,
            "omp_num_threads": threads,
            "start_timeout_s": START_TIMEOUT_S,
        },
        "evaluation": {
            "cache": False,
            "voc": {"max_tokens": 64},
            "mmlu": {"dataset": str(root / "mmlu"), "max_tokens": 64},
        },
    }
    run = Run(LocalStore(root), RunLayout("r"), check_config(tree, "benchmark"))
    run.store.write_bytes(run.layout.config, dump_config(run.config))
    digest = commit_folder(LocalStore(model.parent), model.name, model).digest
    write_models(run, [ModelEntry(MODEL, "reference", MODEL, str(model), digest)])
    row = ",".join([*LABEL.values(), "it is short"])
    run.store.write_bytes(f"{run.layout.data}/taxonomy.csv", f"L1,L2,L3,L4,description\n{row}\n".encode())
    lines = [
        {"id": f"c{n}", "comment": f"{text} {n}", "segments": [{"content": text, **LABEL, "emotion": "sad"}]}
        for n, text in enumerate(_repeat(DEFAULT_TEXTS, comments))
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    run.store.write_bytes(f"{run.layout.data}/test.jsonl", text.encode())
    _write_questions(root / "mmlu", questions)
    return run


def serve_and_ask(run: Run, suites: Sequence[str], key: str) -> Served:
    """Start an engine, run suites on it at the same time, end it."""
    begin = time.monotonic()
    with _serving(run, key) as endpoint:
        healthy = time.monotonic()
        asked = [_start(run, SUITES[suite], key) for suite in suites]
        try:
            codes = [process.wait() for process in asked]
        finally:
            for process in asked:  # whatever ends this side early
                process.terminate()
        if any(codes):
            raise RuntimeError(f"suites ended with {codes}: see above")
        done = time.monotonic()
        page = get_text(f"{endpoint.url.removesuffix('/v1')}/metrics")
        tokens = sum(float(value) for _, value in _TOKENS.findall(page))
    return Served(healthy - begin, done - healthy, time.monotonic() - begin, tokens)


def describe(engines: Sequence[Served]) -> dict[str, Any]:
    """Return the figures of one side."""
    wall_s, suites_s = sum(e.wall_s for e in engines), sum(e.suites_s for e in engines)
    tokens = sum(e.tokens for e in engines)
    return {
        "engines": len(engines),
        "wall_s": round(wall_s, 1),
        "starts_s": round(sum(e.start_s for e in engines), 1),
        "suites_s": round(suites_s, 1),
        "tokens": int(tokens),
        "tokens_per_wall_s": round(tokens / wall_s, 1),
        "tokens_per_suites_s": round(tokens / suites_s, 1),
    }


@contextmanager
def _serving(run: Run, key: str) -> Iterator[Endpoint]:
    process = _start(run, ("serve",), key)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while (endpoint := read_endpoint(run, MODEL)) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server is not healthy: see above")
            time.sleep(0.1)
        yield endpoint
    finally:
        process.terminate()
        process.wait(30)


def _start(run: Run, words: Sequence[str], key: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "evaluation", *words, "--store-uri", run.store.uri]
    command += ["--run-id", run.layout.run_id, "--model", MODEL]
    return subprocess.Popen(command, env={**os.environ, KEY_VARIABLE: key}, stdout=sys.stderr)


def _write_questions(folder: Path, num: int) -> None:
    folder.mkdir(parents=True)
    rows = [
        {
            "question": f"{text} What is number {n}?",
            "subject": f"high_school_{n % 4}",
            "choices": [f"value {n}{letter}" for letter in "abcd"],
            "answer": n % 4,
        }
        for n, text in enumerate(_repeat(DEFAULT_TEXTS, num))
    ]
    for split, found in (("test", rows), ("dev", rows[:20])):
        pq.write_table(pa.Table.from_pylist(found), folder / f"{split}.parquet")


def _repeat(texts: Sequence[str], num: int) -> list[str]:
    return [texts[n % len(texts)] for n in range(num)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comments", type=int, default=300, help="VOC comments")
    parser.add_argument("--questions", type=int, default=300, help="MMLU questions per protocol")
    parser.add_argument("--threads", type=int, default=1, help="OpenMP threads of an engine")
    parser.add_argument("--model", type=Path, help="model folder; default: a random one")
    arguments = parser.parse_args()
    key, load, sides = secrets.token_hex(16), [os.getloadavg()[0]], {}
    sizes = {"comments": arguments.comments, "questions": arguments.questions, "threads": arguments.threads}
    with tempfile.TemporaryDirectory(prefix="nightforge-engine-") as name:
        folder = Path(name)
        model = arguments.model or make_tiny_model(
            folder / "model",
            [*DEFAULT_TEXTS, *[f"Answer: {letter}" for letter in "ABCD"] * 4],
            hidden_size=64,
            head_dim=32,  # the CPU build's attention has no 16
            max_position_embeddings=1024,
        )
        for side, shares in {"shared": [list(SUITES)], "per_suite": [[suite] for suite in SUITES]}.items():
            run = make_run(folder / side, model, **sizes)
            sides[side] = describe([serve_and_ask(run, suites, key) for suites in shares])
            print(f"{side}: {sides[side]}", flush=True)
            load.append(os.getloadavg()[0])
    ratio = sides["per_suite"]["wall_s"] / sides["shared"]["wall_s"]
    figures = {**sizes, "model": str(arguments.model or "random Qwen3"), **sides}
    print(json.dumps({**figures, "per_suite_over_shared_wall": round(ratio, 2), "load_1min": load}))


if __name__ == "__main__":
    main()
