import asyncio

import pytest

from evaluation.clients.bedrock import BedrockClient
from evaluation.clients.interface import PromptTooLongError, RequestRefusedError, gather_all
from evaluation.clients.retry import RetryPolicy
from evaluation.serving.endpoint import Endpoint
from tests.unit.evaluation.bedrock_stand_in import ACCESS_KEY, MODEL, REGION, SECRET_KEY, BedrockStandIn
from voc.config.external import BedrockModelConfig
from voc.errors import EndpointError
from voc.preflight.bedrock import check_bedrock


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


@pytest.fixture
def service():
    with BedrockStandIn().serving() as stand_in:
        yield stand_in


def make_endpoint(service, *, model=MODEL, region=REGION):
    return Endpoint(service.url, model, "d", "bedrock", "t", kind="bedrock", region=region)


def ask(service, texts=("hello",), *, system=None, retry=None, endpoint=None, **options):
    policy = RetryPolicy(**{"first_delay_s": 0.001, "patience_s": 0.05, **(retry or {})})

    async def run():
        answers = {}
        async with BedrockClient(endpoint or make_endpoint(service), concurrency=4, policy=policy) as client:

            async def one(text):
                turns = [{"role": "system", "content": system}] if system else []
                turns.append({"role": "user", "content": text})
                answers[text] = await client.chat(turns, **{"max_tokens": 9, **options})

            await gather_all(one(text) for text in texts)
        return answers, client

    return asyncio.run(run())


def test_an_answer_has_text_finish_reason_and_usage(service):
    answers, client = ask(service, ["a", "b"])
    assert (answers["a"].text, answers["b"].text) == ("echo: a", "echo: b")
    assert (answers["a"].finish_reason, answers["a"].prompt_tokens, answers["a"].completion_tokens) == ("stop", 7, 2)
    assert client.retries == 0


def test_the_system_turn_is_apart_and_decoding_is_greedy(service):
    ask(service, ["hi"], system="label it")
    request = service.requests[0]
    assert request["system"] == [{"text": "label it"}]
    assert request["messages"] == [{"role": "user", "content": [{"text": "hi"}]}]
    assert request["inferenceConfig"] == {"maxTokens": 9, "temperature": 0}


def test_reasoning_is_skipped_and_the_first_text_is_taken(service):
    service.answer = lambda text: [
        {"reasoningContent": {"reasoningText": {"text": "it may be [", "signature": "s"}}},
        {"text": "the answer"},
        {"text": "an afterthought"},
    ]
    answers, _ = ask(service)
    assert answers["hello"].text == "the answer"


def test_an_answer_of_reasoning_alone_is_an_empty_text(service):
    service.answer = lambda text: [{"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}]
    answers, _ = ask(service)
    assert answers["hello"].text == ""


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        ("throttled", "throttled"),
        ("not_ready", "throttled"),
        ("internal", "500"),
        ("unavailable", "503"),
        ("model_error", "424"),
        ("model_timeout", "408"),
        ("half_body", "half_body"),
        ("half_json", "half_body"),
        ("close", "disconnected"),
    ],
)
def test_what_may_pass_is_tried_again_and_counted_under_its_name(service, failure, name):
    service.failures = [failure, failure]
    answers, client = ask(service)
    assert answers["hello"].text == "echo: hello"
    assert client.retried == {name: 2}


def test_throttling_without_end_is_a_named_error(service):
    service.refuse = lambda body: "throttled"
    with pytest.raises(EndpointError, match=r"failed \d+ times.*ThrottlingException.*concurrency"):
        ask(service, retry={"max_attempts": 1, "patience_s": 0.2})


def test_a_quota_is_waited_for_longer_than_a_broken_service(service):
    service.failures = ["throttled"] * 9
    answers, client = ask(service, retry={"max_attempts": 1, "patience_s": 30})
    assert answers["hello"].text == "echo: hello"
    assert client.retried == {"throttled": 9}


def test_an_answer_that_never_comes_is_a_named_error(service, monkeypatch):
    monkeypatch.setattr("voc.preflight.bedrock.READ_TIMEOUT_S", 600)
    monkeypatch.setattr("evaluation.clients.bedrock.make_client", quick_client)
    service.delay_s = 1.0
    with pytest.raises(EndpointError, match=r"failed 2 times.*[Rr]ead timeout"):
        ask(service, retry={"max_attempts": 2})


def quick_client(*arguments, **options):
    from voc.preflight.bedrock import make_client

    return make_client(*arguments, **options, read_timeout_s=0.2)


def test_nobody_at_the_address_is_waited_for_and_then_a_named_error():
    with BedrockStandIn().serving() as gone:
        pass
    with pytest.raises(EndpointError, match=r"failed \d+ times.*Could not connect"):
        ask(gone)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ("access", r"AccessDeniedException.*To do: request access.*bedrock:InvokeModel"),
        ("model", r"ValidationException.*exists in this region"),
    ],
)
def test_what_will_not_pass_is_asked_once_and_says_what_to_do(service, failure, told):
    service.failures = [failure, failure]
    with pytest.raises(EndpointError, match=told) as failed:
        ask(service)
    assert len(service.failures) == 1
    assert SECRET_KEY not in str(failed.value)


def test_a_wrong_region_is_told_apart(service):
    with pytest.raises(EndpointError, match=r"InvalidSignatureException for .* in eu-west-1"):
        ask(service, endpoint=make_endpoint(service, region="eu-west-1"))


def test_a_prompt_that_does_not_fit_and_a_refused_one_have_their_own_errors(service):
    service.failures = ["too_long"]
    with pytest.raises(PromptTooLongError):
        ask(service)
    service.failures = ["model"]
    with pytest.raises(RequestRefusedError):
        ask(service)


def test_a_schema_is_passed_on_as_the_service_wants_it(service):
    schema = {"type": "array"}
    ask(service, response_format={"type": "json_schema", "json_schema": {"name": "segments", "schema": schema}})
    wanted = service.requests[0]["outputConfig"]["textFormat"]
    assert wanted == {
        "type": "json_schema",
        "structure": {"jsonSchema": {"name": "segments", "schema": '{"type": "array"}'}},
    }


def settings(service, **changes):
    return BedrockModelConfig(
        **{"name": "lite", "title": "Lite", "model": MODEL, "region": REGION, "url": service.url, **changes}
    )


def test_preflight_asks_for_one_token(service):
    assert check_bedrock(settings(service)) == (None, f"{MODEL} in {REGION} answers")
    assert service.requests[0]["inferenceConfig"]["maxTokens"] == 1


@pytest.mark.parametrize(
    ("changes", "failure", "told"),
    [
        ({}, "access", "AccessDeniedException.*request access"),
        ({"model": "us.amazon.nova-9:0"}, None, "ValidationException.*exists in this region"),
        ({"region": "eu-west-1"}, None, "InvalidSignatureException.*eu-west-1"),
        ({"url": "http://127.0.0.1:1"}, None, "cannot be reached.*a region with Bedrock, such as.*us-east-1"),
    ],
)
def test_preflight_names_what_is_missing(service, changes, failure, told):
    service.failures = [failure] if failure else []
    with pytest.raises(EndpointError, match=told):
        check_bedrock(settings(service, **changes))


def test_a_service_that_throttles_preflight_has_let_it_in(service):
    service.failures = ["throttled"]
    assert "may be asked" in check_bedrock(settings(service))[1]


def test_no_credentials_are_a_named_error(service, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(EndpointError, match="no AWS credentials"):
        check_bedrock(settings(service))
