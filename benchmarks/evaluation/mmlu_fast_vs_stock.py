"""MMLU by log-likelihood: our one request per question against stock lm-eval (`local-completions`), on the same server.

    python -m benchmarks.evaluation.mmlu_fast_vs_stock --mmlu FOLDER [--items 2000] [--model FOLDER] [--stock-batch-size 8]

`--mmlu` is a folder in the layout of cais/mmlu (test.parquet, dev.parquet). The stock side is lm-eval's own 57 tasks and its own
model class, with local files in place of the hub. Ours runs first, on a cold prefix cache, so that it has nothing from the
other side. Without `--model` the model is a random Qwen3 with a tokenizer trained on the questions. Targets: 5 times faster, the
same answer on 99.9 % of all 14,042 questions. The last line is one JSON object with all figures and every disagreement.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.evaluation.served import serving
from benchmarks.turns import ProcessTree
from evaluation.serving.endpoint import Endpoint, check_endpoint
from evaluation.shards.shard import PartFile
from evaluation.suites.lm_eval.scoring import LADDER
from evaluation.suites.lm_eval.tasks import evaluate_tasks, load_own_tasks, silence
from evaluation.suites.mmlu.protocols import TASK_FOLDER, name_task
from tests.tiny_model import make_tiny_model
from voc.config.serving import ServingConfig
from voc.prompts import MMLU_LETTERS
from voc.store.local import LocalStore

NAME = "model"
VOCAB_SIZE = 8192
Scores = dict[str, list[float]]


@dataclass(frozen=True)
class Side:
    """What one side found and took.

    Attributes:
        scores: Log-probabilities of the four letters per question.
        wall_s: From lm-eval's call to its result; models and the stock side's tasks are loaded before.
        server_cpu_s: CPU time of the server's processes meanwhile.
    """

    scores: Scores
    wall_s: float
    server_cpu_s: float


def measure(pid: int, evaluate: Callable[[], Mapping[str, Any]]) -> Side:
    """Run one evaluation and return its scores and what it took; the API server and its engine are two processes."""
    server = ProcessTree(pid)
    cpu_s, start = server.measure_cpu_s(), time.monotonic()
    results = evaluate()
    wall_s = time.monotonic() - start
    return Side(_read_scores(results["samples"]), round(wall_s, 1), round(server.measure_cpu_s() - cpu_s, 1))


def read_rows(mmlu: Path, split: str, num_items: int | None) -> list[dict[str, Any]]:
    """Return rows of a split, evenly spread over the file where only some are wanted."""
    rows = pq.read_table(mmlu / f"{split}.parquet").to_pylist()
    step = 1 if num_items is None else max(1, len(rows) // num_items)
    return [{**row, "custom_id": f"mmlu-{i:06d}"} for i, row in enumerate(rows[::step][:num_items])]


def write_questions(folder: Path, rows: Sequence[Mapping[str, Any]], examples: Sequence[Mapping[str, Any]]) -> None:
    """Write the questions as ours reads them (one file) and as the stock tasks do (one file per subject and split)."""
    folder.mkdir(parents=True)
    for split, found in (("test", rows), ("dev", examples)):
        pq.write_table(pa.Table.from_pylist(list(found)), folder / f"{split}.parquet")
        for subject in sorted({str(row["subject"]) for row in rows}):
            own = [row for row in found if row["subject"] == subject]
            pq.write_table(pa.Table.from_pylist(own), folder / f"{subject}-{split}.parquet")


def run_ours(
    pid: int, endpoint: Endpoint, key: str, model: Path, questions: Path, *, concurrency: int, scoring: str
) -> Side:
    """Score every question with this project's model class."""
    from evaluation.suites.lm_eval.models import LogLikelihoodModel

    with tempfile.TemporaryDirectory() as folder, PartFile(LocalStore(Path(folder)), "part", {}) as part:
        lm = LogLikelihoodModel(
            endpoint,
            key,
            tokenizer=(model / "tokenizer.json").read_bytes(),
            max_model_len=_max_model_len(endpoint, key),
            concurrency=concurrency,
            part=part,
            scoring=scoring,
        )
        name = name_task("log_likelihood")
        metadata = {"dataset": str(questions), "protocol": "log_likelihood", "limit": None, "num_fewshot": 0}
        metadata |= {"shard": 0, "num_shards": 1}
        return measure(pid, lambda: evaluate_tasks(lm, load_own_tasks(TASK_FOLDER, [name], metadata), is_chat=False))


def run_stock(
    pid: int, endpoint: Endpoint, key: str, model: Path, questions: Path, *, concurrency: int, batch_size: int
) -> Side:
    """Score every question with lm-eval's own tasks and model class."""
    silence()
    from lm_eval.api.registry import get_model
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    os.environ["OPENAI_API_KEY"] = key  # where local-completions looks
    lm = get_model("local-completions")(
        base_url=f"{endpoint.url}/completions",
        model=endpoint.model,
        tokenizer=str(model),
        num_concurrent=concurrency,
        batch_size=batch_size,
        max_length=_max_model_len(endpoint, key),
        timeout=600,
    )
    subjects = sorted(path.name.removesuffix("-test.parquet") for path in questions.glob("*-test.parquet"))
    specs = [
        {
            "task": f"mmlu_{subject}",
            "dataset_path": "parquet",
            "dataset_name": None,
            "dataset_kwargs": {
                "data_files": {split: str(questions / f"{subject}-{split}.parquet") for split in ("test", "dev")}
            },
        }
        for subject in subjects
    ]
    tasks = TaskManager().load([{"group": "local_mmlu", "task": specs}])
    tasks = {**tasks, "groups": {}, "group_map": {}}
    return measure(pid, lambda: evaluate(lm, tasks, bootstrap_iters=0) or {})


def compare(ours: Scores, stock: Scores) -> dict[str, Any]:
    """Compare the answers of two sides question by question.

    Raises:
        ValueError: If the sides did not answer the same questions.
    """
    if ours.keys() != stock.keys():
        raise ValueError(f"the sides answered {len(ours)} and {len(stock)} questions, not the same ones")
    differences = [abs(a - b) for name in ours for a, b in zip(ours[name], stock[name], strict=True)]
    disagreements = [
        {
            "custom_id": name,
            "ours": _letter(ours[name]),
            "stock": _letter(stock[name]),
            "ours_log": ours[name],
            "stock_log": stock[name],
        }
        for name in sorted(ours)
        if _letter(ours[name]) != _letter(stock[name])
    ]
    return {
        "items": len(ours),
        "same_answer_ratio": 1 - len(disagreements) / len(ours),
        "largest_difference": max(differences),
        "answers": {letter: sum(_letter(s) == letter for s in ours.values()) for letter in MMLU_LETTERS},
        "disagreements": disagreements,
    }


def describe_serving(model: Path, threads: int) -> ServingConfig:
    return ServingConfig(
        dtype="float32",
        max_model_len=int(json.loads((model / "config.json").read_text())["max_position_embeddings"]),
        max_num_seqs=128,
        max_num_batched_tokens=8192,
        kv_cache_gib=1.0,
        enforce_eager=True,
        omp_num_threads=threads,
    )


def _max_model_len(endpoint: Endpoint, key: str) -> int:
    return int(check_endpoint(endpoint.url, endpoint.model, key)["max_model_len"])


def _read_scores(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Scores:
    return {
        sample["doc"]["custom_id"]: [float(response[0][0]) for response in sample["resps"]]
        for found in samples.values()
        for sample in found
    }


def _letter(scores: Sequence[float]) -> str:
    return MMLU_LETTERS[scores.index(max(scores))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mmlu", type=Path, required=True, help="folder with test.parquet and dev.parquet")
    parser.add_argument("--items", type=int, help="only so many questions, spread over all subjects; default: all")
    parser.add_argument("--model", type=Path, help="model folder; default: a random one")
    parser.add_argument("--concurrency", type=int, default=64, help="questions (ours) and requests (stock) in flight")
    parser.add_argument("--stock-batch-size", type=int, default=1, help="prompts in a request of the stock side")
    parser.add_argument("--scoring", choices=LADDER, default=LADDER[0], help="our way of scoring")
    parser.add_argument("--threads", type=int, default=1, help="OpenMP threads of the server")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows, examples = read_rows(arguments.mmlu, "test", arguments.items), read_rows(arguments.mmlu, "dev", None)
    key = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="nightforge-mmlu-") as name:
        folder = Path(name)
        model = arguments.model or _make_model(folder / "model", rows)
        write_questions(folder / "mmlu", rows, examples)
        write_questions(folder / "warm", examples[:16], examples)
        load = [os.getloadavg()[0]]
        with serving(model, NAME, key, describe_serving(model, arguments.threads)) as (endpoint, server):
            ours = {"concurrency": arguments.concurrency, "scoring": arguments.scoring}
            stock = {"concurrency": arguments.concurrency, "batch_size": arguments.stock_batch_size}
            for questions in ("warm", "mmlu"):  # the first pass pays for imports and for the engine's first steps
                mine = run_ours(server.pid, endpoint, key, model, folder / questions, **ours)
                print(f"ours: {mine.wall_s} s for {len(mine.scores)} questions", flush=True)
                load.append(os.getloadavg()[0])
                other = run_stock(server.pid, endpoint, key, model, folder / questions, **stock)
                print(f"stock: {other.wall_s} s for {len(other.scores)} questions", flush=True)
                load.append(os.getloadavg()[0])
            engine = endpoint.engine
    compared = compare(mine.scores, other.scores)
    figures = {
        "engine": engine,
        "model": str(arguments.model or "random Qwen3"),
        "scoring": arguments.scoring,
        "stock_batch_size": arguments.stock_batch_size,
        "concurrency": arguments.concurrency,
        "ours_s": mine.wall_s,
        "stock_s": other.wall_s,
        "times_faster": round(other.wall_s / mine.wall_s, 2),
        "ours_server_cpu_s": mine.server_cpu_s,
        "stock_server_cpu_s": other.server_cpu_s,
        "load_1min": [round(value, 2) for value in load],
        **compared,
    }
    for line in compared["disagreements"]:
        print(json.dumps(line))
    print(json.dumps(figures))


def _make_model(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    texts = ["\n".join([str(row["question"]), *row["choices"]]) for row in rows]
    texts += [f"Answer: {letter}" for letter in MMLU_LETTERS] * 8
    return make_tiny_model(
        folder, texts, hidden_size=64, num_layers=2, head_dim=32, vocab_size=VOCAB_SIZE, max_position_embeddings=4096
    )


if __name__ == "__main__":
    main()
