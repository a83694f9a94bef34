"""A shard's process is killed with SIGKILL in the middle, twice; what it had written stays, and nothing is lost or doubled."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from evaluation.serving.endpoint import KEY_VARIABLE
from evaluation.shards.coverage import list_coverage_problems
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import LABEL, announce, make_run, write_test_set
from voc.config.file import dump_config
from voc.labels.taxonomy import parse_taxonomy
from voc.prompts import hash_comment_prompt, hash_prompt
from voc.store.manifest import verify_directory

NUM_ITEMS, CONCURRENCY = 60, 3
ANSWER = json.dumps([{"content": "comment", **LABEL, "emotion": "sad"}])


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with StandIn(answer=lambda text: ANSWER, delay_s=0.05).serving() as server:
        run = make_run(tmp_path, voc={"concurrency": CONCURRENCY})
        run.store.write_bytes(run.layout.config, dump_config(run.config))
        write_test_set(run, NUM_ITEMS)
        announce(run, server)
        yield run, server


def start(run):
    command = ["-m", "evaluation", "voc", "--store-uri", run.store.uri, "--run-id", "r1", "--model", "base"]
    return subprocess.Popen([sys.executable, *command], env=dict(os.environ), stdout=subprocess.PIPE, text=True)


def kill_after(run, server, num_requests):
    """Kill the process once the server has got so many requests, and return the ids that it had written."""
    process = start(run)
    deadline = time.monotonic() + 120
    while len(server.requests) < num_requests:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    part = run.store.read_bytes(f"{run.layout.shard('base', 'voc', 0, 1)}.part.jsonl")
    return [json.loads(line)["custom_id"] for line in part[: part.rfind(b"\n") + 1].splitlines()[1:]]


def test_a_killed_process_is_continued_without_repeating_or_losing_an_item(served):
    run, server = served
    written, kills = [], (15, 35)
    for number, num_requests in enumerate(kills):
        before, asked = set(written), len(server.requests)
        written = kill_after(run, server, num_requests)
        assert before <= set(written), number
        assert len(written) > len(before)
        assert not {_name(body) for body in server.requests[asked:]} & before
    asked, done = len(server.requests), set(written)
    process = start(run)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert f"{len(done)} of {NUM_ITEMS} items were answered before" in output

    prefix = run.layout.shard("base", "voc", 0, 1)
    manifest = verify_directory(run.store, prefix)
    lines = [json.loads(line) for line in run.store.read_bytes(f"{prefix}/predictions.jsonl").splitlines()]
    assert [line["custom_id"] for line in lines] == [f"c{number}" for number in range(NUM_ITEMS)]
    taxonomy = parse_taxonomy(run.store.read_bytes(f"{run.layout.data}/taxonomy.csv").decode(), "test")
    prompt = hash_prompt("internalized", taxonomy)
    expected = {f"c{number}": hash_comment_prompt(prompt, f"comment {number}") for number in range(NUM_ITEMS)}
    assert list_coverage_problems("voc", expected, lines) == []
    assert manifest.facts["resumed_items"] == len(done)
    # What was answered is never asked again; only what was in flight when the process died is.
    again = [_name(body) for body in server.requests[asked:]]
    assert sorted(again) == sorted(set(expected) - done)
    assert len(server.requests) <= NUM_ITEMS + len(kills) * CONCURRENCY
    assert not [key for key in run.store.list_keys() if "part" in key]


def _name(body):
    return "c" + body["messages"][-1]["content"].split()[-1]
