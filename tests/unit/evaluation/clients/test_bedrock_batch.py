import asyncio
import json

import pytest

from evaluation.clients.bedrock_batch import BedrockBatchClient, name_rows, read_output
from evaluation.clients.interface import gather_all
from evaluation.clients.retry import RetryPolicy
from evaluation.serving.connect import connect
from evaluation.serving.endpoint import Endpoint
from evaluation.shards.shard import Shard
from evaluation.suites.voc.ask import evaluate_voc
from tests.s3_servers import BUCKET
from tests.unit.evaluation.bedrock_stand_in import ACCESS_KEY, MODEL, REGION, SECRET_KEY, BedrockStandIn
from tests.unit.evaluation.served_run import LABEL, make_run, write_test_set
from voc.errors import EndpointError
from voc.store.local import LocalStore
from voc.store.manifest import read_manifest
from voc.store.s3 import S3Store
from voc.store.uri import read_uri

FOLDER = f"s3://{BUCKET}/batches"
ROLE = "arn:aws:iam::123456789012:role/batch"


@pytest.fixture
def service(moto, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)

    def write(uri, data):
        S3Store(BUCKET, "").write_bytes(uri.removeprefix(f"s3://{BUCKET}/"), data)

    with BedrockStandIn(read_input=read_uri, write_output=write).serving() as stand_in:
        yield stand_in
    S3Store(BUCKET, "").delete_prefix("batches")


def make_batch(service, **changes):
    batch = {"role_arn": ROLE, "folder": FOLDER, "url": service.url, "min_rows": 3, "poll_s": 0.01, "timeout_s": 20}
    return Endpoint(service.url, MODEL, "d", "e", "t", kind="bedrock", region=REGION, batch=batch | changes)


def ask(service, texts, **changes):
    async def run():
        answers = {}
        policy = RetryPolicy(first_delay_s=0.001, patience_s=0.05)
        client = BedrockBatchClient(make_batch(service, **changes), concurrency=4, policy=policy, quiet_s=0.05)
        async with client:

            async def one(number, text):
                answers[number] = (await client.chat([{"role": "user", "content": text}], max_tokens=9)).text

            await gather_all(one(number, text) for number, text in enumerate(texts))
        return answers, client

    return asyncio.run(run())


def test_chats_become_one_job_and_are_joined_on_their_ids(service):
    texts = [f"text {number}" for number in range(20)]
    answers, client = ask(service, texts)
    assert answers == {number: f"echo: {text}" for number, text in enumerate(texts)}
    assert len(service.jobs) == 1
    body = next(iter(service.jobs.values()))["body"]
    assert (body["modelInvocationType"], body["modelId"], body["roleArn"]) == ("Converse", MODEL, ROLE)
    rows = [json.loads(line) for line in read_uri(body["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]).splitlines()]
    assert rows[0].keys() == {"recordId", "modelInput"}
    assert all(len(row["recordId"]) == 11 for row in rows)
    assert rows[0]["modelInput"]["inferenceConfig"] == {"maxTokens": 9, "temperature": 0}
    assert client.retried["batch_row"] == 0


def test_equal_chats_are_one_row(service):
    answers, _ = ask(service, ["a", "b", "a", "c"])
    assert answers == {0: "echo: a", 1: "echo: b", 2: "echo: a", 3: "echo: c"}
    assert len(service.requests) == 3


def test_rows_with_an_error_and_rows_that_are_missing_are_asked_again_and_counted(service):
    def spoil(row):
        text = row["modelInput"]["messages"][0]["content"][0]["text"]
        if text == "a":
            return {"recordId": row["recordId"], "error": {"errorCode": 429, "errorMessage": "throttled"}}
        return None if text == "b" else row

    service.spoil = spoil
    answers, client = ask(service, ["a", "b", "c", "d"])
    assert answers == {0: "echo: a", 1: "echo: b", 2: "echo: c", 3: "echo: d"}
    assert client.retried["batch_row"] == 2


def test_too_few_rows_are_asked_one_by_one_and_that_is_said(service, capsys):
    answers, _ = ask(service, ["a", "b"])
    assert answers == {0: "echo: a", 1: "echo: b"}
    assert service.jobs == {}
    assert "too few for a batch" in capsys.readouterr().out


@pytest.mark.parametrize("status", ["Failed", "Expired", "Stopped"])
def test_a_job_that_fails_is_named_and_the_next_try_starts_another(service, status):
    service.statuses = ["Submitted", status]
    with pytest.raises(EndpointError, match=rf"{status}: what Bedrock says"):
        ask(service, ["a", "b", "c"])
    with pytest.raises(EndpointError, match=status):
        ask(service, ["a", "b", "c"])
    assert len(service.jobs) == 2


def test_a_run_that_was_killed_goes_on_with_its_job(service):
    service.statuses = ["InProgress"]
    with pytest.raises(EndpointError, match="goes on waiting"):
        ask(service, ["a", "b", "c"], timeout_s=0)
    service.statuses = ["Completed"]
    answers, _ = ask(service, ["c", "b", "a"])
    assert answers == {0: "echo: c", 1: "echo: b", 2: "echo: a"}
    assert len(service.jobs) == 1


def test_a_job_that_may_not_be_started_is_a_named_error(service):
    with pytest.raises(EndpointError, match="InvalidSignatureException"):
        asyncio.run(start_in_another_region(service))


async def start_in_another_region(service):
    import dataclasses

    endpoint = dataclasses.replace(make_batch(service), region="eu-west-1")
    async with BedrockBatchClient(endpoint, concurrency=2, quiet_s=0.01) as client:
        await asyncio.gather(*(client.chat([{"role": "user", "content": t}], max_tokens=9) for t in "abc"))


def test_a_suite_is_answered_by_a_batch(tmp_path, service):
    service.answer = lambda text: json.dumps([{"content": "comment", **LABEL, "emotion": "sad"}])
    batch = {"role_arn": ROLE, "folder": FOLDER, "url": service.url, "min_rows": 3, "poll_s": 1}
    row = {"name": "lite", "title": "Lite", "model": MODEL, "region": REGION, "url": service.url, "batch": batch}
    run = make_run(tmp_path, external={"bedrock": [row]})
    write_test_set(run, 5)
    connect(run, "lite")
    service.statuses = ["Completed"]
    evaluate_voc(run, "lite", Shard(0, 1))
    assert read_manifest(run.store, run.layout.shard("lite", "voc", 0, 1)).facts["items"] == 5
    assert len(service.jobs) == 1


def test_names_do_not_depend_on_the_order():
    rows = [{"messages": [letter]} for letter in "abc"]
    assert name_rows(rows) == name_rows(rows[::-1])
    assert len(name_rows(rows * 2)) == 3


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1 is not an output row"),
        ('{"recordId": "r9"}', "'r9', which was not asked"),
        ("[]", "not an output row"),
    ],
)
def test_an_output_that_cannot_be_trusted_is_refused(tmp_path, line, told):
    store = LocalStore(tmp_path)
    store.write_bytes("out/x.jsonl.out", line.encode())
    with pytest.raises(EndpointError, match=told):
        read_output(store, "out", ["r1"])
