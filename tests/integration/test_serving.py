"""A real vLLM server (CPU build) on a random Qwen3, and both suites as its clients.

python -m pytest tests/integration/test_serving.py
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.serving.endpoint import KEY_VARIABLE, check_endpoint, read_endpoint, write_endpoint
from evaluation.shards.shard import Shard
from evaluation.suites.mmlu.ask import evaluate_mmlu
from evaluation.suites.voc.ask import evaluate_voc
from tests.tiny_model import DEFAULT_TEXTS, make_tiny_model
from tests.unit.evaluation.served_run import LABEL, make_run, write_questions, write_test_set
from voc.config.file import dump_config
from voc.errors import EndpointError
from voc.run import ModelEntry, read_models, write_models
from voc.store.local import LocalStore
from voc.store.manifest import commit_folder, read_manifest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]  # a crowded machine imports vLLM for minutes

KEY = "the-key-of-the-serving-test"
START_TIMEOUT_S = 420
NUM_COMMENTS, NUM_QUESTIONS = 12, 20
MAX_MODEL_LEN = 8192
NUM_LABELS = 60
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A run with one candidate, its serve process, and the endpoint; the process is stopped by the last test."""
    root = tmp_path_factory.mktemp("serving")
    texts = [*DEFAULT_TEXTS, *[f"Answer: {letter}" for letter in "ABCD"] * 4]
    make_tiny_model(root / "base", texts, hidden_size=64, head_dim=32, max_position_embeddings=MAX_MODEL_LEN)
    commit_folder(LocalStore(root), "base", root / "base")
    serving = {
        "max_model_len": MAX_MODEL_LEN,
        "max_num_batched_tokens": 1024,
        "dtype": "float32",
        "kv_cache_gib": 0.1,
        "enforce_eager": True,
        "omp_num_threads": 1,
        "start_timeout_s": START_TIMEOUT_S,
    }
    run = make_run(root, serving=serving, voc={"max_tokens": 200, "structured_output": True}, mmlu={"max_tokens": 8})
    run.store.write_bytes(run.layout.config, dump_config(run.config))
    write_models(run, [ModelEntry("a", "candidate", "A", str(root / "base"), None)])
    write_test_set(run, NUM_COMMENTS)
    write_questions(root / "mmlu", NUM_QUESTIONS)
    environment = {**os.environ, KEY_VARIABLE: KEY, "PYTHONPATH": str(REPOSITORY)}
    command = [
        sys.executable,
        "-m",
        "evaluation",
        "serve",
        "--store-uri",
        run.store.uri,
        "--run-id",
        "r1",
        "--model",
        "a",
    ]
    with (root / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield run, process, wait_until_announced(run, process, root / "serve.log")
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()  # its watchdog takes the server with it
                process.wait()


def wait_until_announced(run, process, log):
    deadline = time.monotonic() + START_TIMEOUT_S + 30
    while time.monotonic() < deadline:
        endpoint = read_endpoint(run, "a")
        if endpoint is not None:
            return endpoint
        if process.poll() is not None:
            break
        time.sleep(0.2)
    pytest.fail("the server is not healthy:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-30:]))


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)


def read_lines(run, suite, name):
    data = run.store.read_bytes(f"{run.layout.shard('a', suite, 0, 1)}/{name}")
    return [json.loads(line) for line in data.splitlines()]


def test_the_endpoint_asks_for_the_key_and_says_what_it_serves(served):
    _, _, endpoint = served
    assert check_endpoint(endpoint.url, endpoint.model, KEY)["max_model_len"] == MAX_MODEL_LEN
    assert endpoint.engine.startswith("vllm ")
    with pytest.raises(EndpointError, match="401"):
        check_endpoint(endpoint.url, endpoint.model, "another key")


def test_structured_answers_hold_only_labels_of_the_taxonomy(served):
    run, _, _ = served
    evaluate_voc(run, "a", Shard(0, 1))
    lines = read_lines(run, "voc", "predictions.jsonl")
    assert [line["custom_id"] for line in lines] == [f"c{i}" for i in range(NUM_COMMENTS)]
    for line in lines:
        assert line["usage"]["completion_tokens"] > 0
        for segment in line["segments"] or []:
            assert {level: segment[level] for level in LABEL} == LABEL
        if line["finish_reason"] == "stop":
            assert line["failure"] is None
            assert line["strict"]


def scored(run, scoring):
    """Score with the run's settings but for the way of scoring, which makes it another run's shard."""
    mmlu = run.config.evaluation.mmlu.model_copy(update={"scoring": scoring})
    evaluation = run.config.evaluation.model_copy(update={"mmlu": mmlu})
    other = replace(run, config=run.config.model_copy(update={"evaluation": evaluation}))
    evaluate_mmlu(other, "a", "log_likelihood", Shard(0, 1))
    prefix = run.layout.shard("a", "mmlu_log_likelihood", 0, 1)
    assert read_manifest(run.store, prefix).facts["scoring"] == scoring
    return read_lines(run, "mmlu_log_likelihood", "samples.jsonl")


def test_the_engine_scores_choices_in_every_way_alike(served):
    run, _, _ = served
    together = scored(run, "logprob_token_ids")
    echoed = scored(run, "echo")
    assert [line["prediction"] for line in together] == [line["prediction"] for line in echoed]
    for one, other in zip(together, echoed, strict=True):
        assert one["log_probabilities"] == pytest.approx(other["log_probabilities"], abs=1e-4)


def test_the_letter_reading_is_one_letter_whatever_the_model_is(served):
    run, _, _ = served
    evaluate_mmlu(run, "a", "letter", Shard(0, 1))
    lines = read_lines(run, "mmlu_letter", "samples.jsonl")
    assert len(lines) == NUM_QUESTIONS
    assert all(line["is_letter"] for line in lines)


def test_generative_answers_come_for_every_question(served):
    run, _, _ = served
    evaluate_mmlu(run, "a", "generative", Shard(0, 1))
    lines = read_lines(run, "mmlu_generative", "samples.jsonl")
    assert [line["custom_id"] for line in lines] == [f"mmlu-{i:06d}" for i in range(NUM_QUESTIONS)]
    assert any(line["text"] for line in lines)


def make_long_run(run, endpoint, folder):
    """Return a run on the same server whose prompts hold many labels."""
    long = make_run(folder, prompt="taxonomy", serving={"max_model_len": MAX_MODEL_LEN}, voc={"max_tokens": 4})
    write_models(long, read_models(run))
    write_test_set(long, NUM_COMMENTS)
    rows = [",".join([*LABEL.values(), "it is short"])]
    rows += [f"Product,Battery,Life,Kind {n},the battery of the kind {n} is not alive" for n in range(NUM_LABELS)]
    table = "\n".join(["L1,L2,L3,L4,description", *rows])
    long.store.write_bytes(f"{long.layout.data}/taxonomy.csv", table.encode())
    write_endpoint(long, "a", endpoint)
    return long


def test_the_labels_of_long_prompts_are_computed_once(served, tmp_path):
    run, _, endpoint = served
    long = make_long_run(run, endpoint, tmp_path)
    evaluate_voc(long, "a", Shard(0, 1))
    facts = read_manifest(long.store, long.layout.shard("a", "voc", 0, 1)).facts
    usages = [line["usage"] for line in read_lines(long, "voc", "predictions.jsonl")]
    assert min(usage["prompt_tokens"] for usage in usages) > 1000
    assert usages[0]["cached_tokens"] < 100  # the primer itself
    assert facts["prefix_cache"]["rows"] == NUM_COMMENTS - 1
    assert facts["prefix_cache"]["hit_ratio"] >= 0.95
    # What the engine counts over the same time, when nobody else asks it:
    assert facts["engine_prefix_cache"]["prompt_tokens"] == sum(usage["prompt_tokens"] for usage in usages)
    assert facts["engine_prefix_cache"]["cached_tokens"] == sum(usage["cached_tokens"] for usage in usages)


def test_an_engine_that_is_killed_comes_back_and_the_suite_loses_nothing(served, tmp_path):
    run, process, endpoint = served
    other = make_long_run(run, endpoint, tmp_path)
    os.kill(find_server(process.pid).pid, signal.SIGKILL)
    evaluate_voc(other, "a", Shard(0, 1))
    assert [line["custom_id"] for line in read_lines(other, "voc", "predictions.jsonl")] == [
        f"c{i}" for i in range(NUM_COMMENTS)
    ]
    assert set(read_manifest(other.store, other.layout.shard("a", "voc", 0, 1)).facts["retries"]) <= {
        "unreachable",
        "disconnected",
    }
    deadline = time.monotonic() + 30
    while read_endpoint(run, "a").restarts == 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (read_endpoint(run, "a").restarts, read_endpoint(run, "a").url) == (1, endpoint.url)


def find_server(pid):
    import psutil

    return next(p for p in psutil.Process(pid).children(recursive=True) if "--served-model-name" in p.cmdline())


def test_sigterm_ends_the_whole_server_and_removes_the_endpoint(served):
    run, process, endpoint = served
    children = list_descendants(process.pid)
    assert len(children) >= 2  # the API server and the engine
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert read_endpoint(run, "a") is None
    assert [pid for pid in children if is_alive(pid)] == []
    with pytest.raises(EndpointError, match="does not answer"):
        check_endpoint(endpoint.url, endpoint.model, KEY)


def is_alive(pid):
    """A zombie has ended: whoever adopted it has not collected it yet."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " not in stat.read_text()


def list_descendants(pid):
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
