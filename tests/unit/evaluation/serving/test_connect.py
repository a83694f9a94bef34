import json

import pytest

from evaluation.serving.connect import connect
from evaluation.serving.endpoint import read_endpoint
from evaluation.shards.shard import Shard
from evaluation.suites.mmlu.ask import evaluate_mmlu
from evaluation.suites.voc.ask import evaluate_voc
from tests.unit.evaluation.bedrock_stand_in import ACCESS_KEY, MODEL, REGION, SECRET_KEY, BedrockStandIn
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import LABEL, make_run, write_questions, write_test_set
from voc.errors import ConfigError, EndpointError
from voc.run import read_models
from voc.store.manifest import read_manifest

ANSWER = json.dumps([{"content": "comment", **LABEL, "emotion": "sad"}])


@pytest.fixture
def bedrock(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with BedrockStandIn(answer=lambda text: ANSWER).serving() as service:
        yield service


@pytest.fixture
def other(monkeypatch):
    monkeypatch.setenv("OTHER_KEY", KEY)
    with StandIn(model="gpt-x-2026", answer=lambda text: ANSWER).serving() as server:
        yield server


def bedrock_run(root, service, **changes):
    row = {"name": "lite", "title": "Lite", "model": MODEL, "region": REGION, "url": service.url, **changes}
    run = make_run(root, external={"bedrock": [row]})
    write_test_set(run, 5)
    write_questions(root / "mmlu", 6)
    return run


def openai_run(root, server, **changes):
    row = {
        "name": "gpt",
        "title": "GPT",
        "url": server.url,
        "model": "gpt-x",
        "named": "gpt-x-2026",
        "key_variable": "OTHER_KEY",
    }
    run = make_run(root, external={"openai": [row | changes]})
    write_test_set(run, 5)
    return run


def read_lines(run, model, suite="voc", name="predictions.jsonl"):
    return [json.loads(x) for x in run.store.read_bytes(f"{run.layout.shard(model, suite, 0, 1)}/{name}").splitlines()]


def test_a_bedrock_model_is_measured_by_the_same_suites(tmp_path, bedrock):
    run = bedrock_run(tmp_path, bedrock)
    connect(run, "lite")
    bedrock.failures = ["throttled", "internal"]
    evaluate_voc(run, "lite", Shard(0, 1))
    assert [line["segments"] for line in read_lines(run, "lite")] == [json.loads(ANSWER)] * 5
    facts = read_manifest(run.store, run.layout.shard("lite", "voc", 0, 1)).facts
    assert facts["retries"] == {"500": 1, "throttled": 1}
    assert facts["engine_prefix_cache"] is None
    bedrock.answer = lambda text: "The correct answer is (A)."
    bedrock.failures = ["half_body", "unavailable"]
    evaluate_mmlu(run, "lite", "generative", Shard(0, 1))
    lines = read_lines(run, "lite", "mmlu_generative", "samples.jsonl")
    assert [line["correct"] for line in lines] == [line["answer"] == "A" for line in lines]
    facts = read_manifest(run.store, run.layout.shard("lite", "mmlu_generative", 0, 1)).facts
    assert facts["retries"] == {"503": 1, "half_body": 1}


def test_a_model_behind_another_openai_server_is_measured_with_its_own_key(tmp_path, other):
    other.delay_s = 0.02
    run = openai_run(tmp_path, other, concurrency=2)
    connect(run, "gpt")
    evaluate_voc(run, "gpt", Shard(0, 1))
    assert other.most_in_flight == 2
    assert {body["model"] for body in other.requests} == {"gpt-x"}
    assert [line["custom_id"] for line in read_lines(run, "gpt")] == [f"c{i}" for i in range(5)]


def test_no_record_of_an_endpoint_holds_a_secret(tmp_path, bedrock, other):
    for run, name in ((bedrock_run(tmp_path / "a", bedrock), "lite"), (openai_run(tmp_path / "b", other), "gpt")):
        connect(run, name)
        record = run.store.read_bytes(run.layout.endpoint(name)).decode()
        assert SECRET_KEY not in record
        assert ACCESS_KEY not in record
        assert KEY not in record


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"named": None}, r"answered as 'gpt-x-2026'.*Expected: gpt-x\..*\.named"),
        ({"key_variable": "NOT_SET"}, "NOT_SET is not set"),
        ({"url": "http://127.0.0.1:1/v1"}, "does not answer"),
    ],
)
def test_an_openai_server_that_cannot_be_used_is_named_and_not_recorded(tmp_path, other, changes, told):
    run = openai_run(tmp_path, other, **changes)
    with pytest.raises((EndpointError, ConfigError), match=told):
        connect(run, "gpt")
    assert read_endpoint(run, "gpt") is None


def test_a_wrong_key_is_told_without_the_key(tmp_path, other, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "another-secret")
    with pytest.raises(EndpointError, match="401") as failed:
        connect(openai_run(tmp_path, other), "gpt")
    assert "another-secret" not in str(failed.value)


def test_a_model_without_access_is_not_recorded(tmp_path, bedrock):
    run = bedrock_run(tmp_path, bedrock)
    bedrock.failures = ["access"]
    with pytest.raises(EndpointError, match="request access"):
        connect(run, "lite")
    assert read_endpoint(run, "lite") is None


def test_an_external_model_has_a_row_and_is_neither_reference_nor_candidate(tmp_path, bedrock):
    run = bedrock_run(tmp_path, bedrock)
    entry = read_models(run)[-1]
    assert (entry.role, entry.kind, entry.uri) == ("external", "bedrock", f"bedrock://{REGION}/{MODEL}")
    again = read_models(bedrock_run(tmp_path, bedrock, title="Another title"))[-1]
    assert again.digest == entry.digest
    other_model = read_models(bedrock_run(tmp_path, bedrock, model="us.amazon.nova-pro-v1:0"))[-1]
    assert other_model.digest != entry.digest


def test_a_model_of_the_run_is_served_and_not_connected(tmp_path, bedrock):
    with pytest.raises(ConfigError, match="served by this run"):
        connect(bedrock_run(tmp_path, bedrock), "base")
