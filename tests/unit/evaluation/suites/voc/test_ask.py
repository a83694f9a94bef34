import json

import pytest

from evaluation.results.lines import VocLine
from evaluation.serving.endpoint import KEY_VARIABLE
from evaluation.shards.shard import Shard
from evaluation.suites.voc.ask import evaluate_voc
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import LABEL, announce, make_run, write_test_set
from tests.unit.evaluation.strict import check_type
from voc.errors import EndpointError
from voc.store.manifest import read_manifest, verify_directory

ANSWER = json.dumps([{"content": "comment", **LABEL, "emotion": "sad"}])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with StandIn(answer=lambda text: ANSWER).serving() as stand_in:
        yield stand_in


def read_lines(run, number=0, count=1):
    prefix = run.layout.shard("base", "voc", number, count)
    return [json.loads(line) for line in run.store.read_bytes(f"{prefix}/predictions.jsonl").splitlines()]


def make_served_run(tmp_path, server, num, **voc):
    run = make_run(tmp_path, voc=voc)
    write_test_set(run, num)
    announce(run, server)
    return run


def test_predictions_are_in_the_order_of_the_test_set_and_parsed(tmp_path, server):
    run = make_served_run(tmp_path, server, 30)
    evaluate_voc(run, "base", Shard(0, 1))
    lines = read_lines(run)
    assert [line["custom_id"] for line in lines] == [f"c{i}" for i in range(30)]
    assert lines[0]["segments"] == json.loads(ANSWER)
    assert (lines[0]["failure"], lines[0]["strict"]) == (None, True)
    check_type(VocLine, lines[0])
    manifest = verify_directory(run.store, run.layout.shard("base", "voc", 0, 1))
    assert manifest.facts["items"] == 30
    assert manifest.facts["prompt_tokens"] == 7 * 30
    assert list(run.store.list_keys(run.layout.timings)) == [f"{run.layout.timings}/voc-base-000-of-001.json"]


def test_shards_and_limit_share_the_first_items(tmp_path, server):
    run = make_served_run(tmp_path, server, 9, limit=5)
    for number in range(2):
        evaluate_voc(run, "base", Shard(number, 2))
    assert [line["custom_id"] for line in read_lines(run, 0, 2)] == ["c0", "c2", "c4"]
    assert [line["custom_id"] for line in read_lines(run, 1, 2)] == ["c1", "c3"]


def test_a_finished_shard_is_not_asked_again(tmp_path, server, capsys):
    run = make_served_run(tmp_path, server, 3)
    evaluate_voc(run, "base", Shard(0, 1))
    run.store.delete_key(run.layout.endpoint("base"))  # the server may be gone by then
    evaluate_voc(run, "base", Shard(0, 1))
    assert len(server.requests) == 3
    assert "finished already" in capsys.readouterr().out


def test_a_killed_shard_asks_only_what_is_missing(tmp_path, server):
    run = make_served_run(tmp_path, server, 6, concurrency=1)
    server.refuse_after = 4
    with pytest.raises(EndpointError, match="404"):
        evaluate_voc(run, "base", Shard(0, 1))
    server.refuse_after = None
    evaluate_voc(run, "base", Shard(0, 1))
    asked = [body["messages"][-1]["content"] for body in server.requests]
    assert sorted(asked) == [f"Comment: comment {i}" for i in range(6)]
    assert [line["custom_id"] for line in read_lines(run)] == [f"c{i}" for i in range(6)]
    assert read_manifest(run.store, run.layout.shard("base", "voc", 0, 1)).facts["resumed_items"] == 4
    assert not [key for key in run.store.list_keys() if "part" in key]


def test_a_failed_request_leaves_no_manifest(tmp_path, server):
    run = make_served_run(tmp_path, server, 3)
    server.failures = [(404, {})]
    with pytest.raises(EndpointError):
        evaluate_voc(run, "base", Shard(0, 1))
    assert read_manifest(run.store, run.layout.shard("base", "voc", 0, 1)) is None


def test_a_comment_that_does_not_fit_is_an_empty_answer_and_counted(tmp_path, server):
    run = make_served_run(tmp_path, server, 3)
    server.too_long = lambda body: body["messages"][-1]["content"].endswith("1")
    evaluate_voc(run, "base", Shard(0, 1))
    line = read_lines(run)[1]
    assert (line["finish_reason"], line["failure"], line["text"]) == ("prompt_too_long", "empty", "")
    assert read_manifest(run.store, run.layout.shard("base", "voc", 0, 1)).facts["prompts_too_long"] == 1


def test_other_settings_answer_again(tmp_path, server):
    run = make_served_run(tmp_path, server, 2)
    evaluate_voc(run, "base", Shard(0, 1))
    again = make_served_run(tmp_path, server, 2, structured_output=True)
    evaluate_voc(again, "base", Shard(0, 1))
    assert len(server.requests) == 4
    assert server.requests[-1]["response_format"]["type"] == "json_schema"


def test_another_model_behind_the_endpoint_is_refused(tmp_path, server):
    run = make_served_run(tmp_path, server, 2)
    announce(run, server, digest="e" * 64)
    with pytest.raises(EndpointError, match="run serve again"):
        evaluate_voc(run, "base", Shard(0, 1))
