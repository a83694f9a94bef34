import asyncio

import pytest

from evaluation.clients.interface import PromptTooLongError, gather_all
from evaluation.clients.openai_compatible import EndpointClient
from evaluation.clients.retry import Retrier, RetryPolicy, TransientError, UnreachableError
from evaluation.serving.endpoint import Endpoint
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from voc.errors import EndpointError


@pytest.fixture
def server():
    with StandIn().serving() as stand_in:
        yield stand_in


def ask(server, texts=("hello",), *, key=KEY, concurrency=8, model="base", retry=None, **options):
    endpoint = Endpoint(server.url, model, "d", "e", "t")

    async def run():
        answers = {}
        policy = RetryPolicy(**{"first_delay_s": 0.001, "patience_s": 0.05, **(retry or {})})
        async with EndpointClient(endpoint, key, concurrency=concurrency, policy=policy, **options) as client:

            async def one(text):
                answers[text] = await client.chat([{"role": "user", "content": text}], max_tokens=5)

            await gather_all(one(text) for text in texts)
        return answers, client

    return asyncio.run(run())


def test_an_answer_has_text_finish_reason_and_usage(server):
    answers, _ = ask(server)
    assert answers["hello"].text == "echo: hello"
    assert (answers["hello"].finish_reason, answers["hello"].prompt_tokens) == ("stop", 7)
    assert server.requests[0]["temperature"] == 0
    assert server.requests[0]["model"] == "base"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, None])
def test_transient_failures_are_tried_again(server, status):
    server.failures = [(status, {}), (status, {})]
    answers, client = ask(server)
    assert answers["hello"].text == "echo: hello"
    assert client.retries == 2


def test_retry_after_is_obeyed(server):
    server.failures = [(429, {"Retry-After": "1"})]
    loop_start = asyncio.new_event_loop().time()
    ask(server)
    assert asyncio.new_event_loop().time() - loop_start >= 1


def test_a_server_that_stays_broken_is_a_named_error(server):
    server.failures = [(503, {})] * 10
    with pytest.raises(EndpointError, match=r"failed 3 times.*503"):
        ask(server, retry={"max_attempts": 3})


def test_an_answer_that_never_comes_is_a_named_error(server):
    server.delay_s = 0.5
    with pytest.raises(EndpointError, match="no answer within"):
        ask(server, retry={"max_attempts": 2}, request_timeout_s=0.05)


def test_nobody_at_the_address_is_a_named_error():
    with StandIn().serving() as gone:
        pass
    with pytest.raises(EndpointError, match=r"failed \d+ times.*ClientConnectorError"):
        ask(gone)


def test_a_server_that_is_restarted_is_waited_for_longer_than_bad_answers_are():
    with StandIn().serving() as server:
        port = server.port
    back = StandIn()

    async def come_back():
        await asyncio.sleep(0.4)
        serving = back.serving(port)
        await asyncio.to_thread(serving.__enter__)
        return serving

    async def run():
        policy = RetryPolicy(max_attempts=1, first_delay_s=0.01, patience_s=20)
        endpoint = Endpoint(server.url, "base", "d", "e", "t")
        async with EndpointClient(endpoint, KEY, concurrency=1, policy=policy) as client:
            returned = asyncio.create_task(come_back())
            answer = await client.chat([{"role": "user", "content": "hello"}], max_tokens=5)
            (await returned).__exit__(None, None, None)
            return answer, client.retried

    answer, retried = asyncio.run(run())
    assert answer.text == "echo: hello"
    assert set(retried) == {"unreachable"}


def test_patience_begins_again_when_the_server_was_there():
    policy = RetryPolicy(max_attempts=3, first_delay_s=0.001, patience_s=0.2)
    script = [UnreachableError("gone"), TransientError("broken", name="500"), UnreachableError("gone"), "answer"]
    pauses_s = iter((0.15, 0.0, 0.15, 0.0))

    async def send_once():
        await asyncio.sleep(next(pauses_s))
        result = script.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    retrier = Retrier(policy, "nothing")
    assert asyncio.run(retrier.send(send_once, "x")) == "answer"
    assert retrier.counts == {"unreachable": 2, "500": 1}


@pytest.mark.parametrize(
    ("broken", "name"),
    [("half_body", "half_body"), ("not_json", "half_body"), (429, "throttled"), (500, "500"), (None, "disconnected")],
)
def test_every_further_try_is_counted_under_its_name(server, broken, name):
    server.failures = [(broken, {})]
    answers, client = ask(server)
    assert answers["hello"].text == "echo: hello"
    assert client.retried == {name: 1}


def test_a_server_that_only_sends_half_bodies_is_a_named_error(server):
    server.failures = [("half_body", {})] * 9
    with pytest.raises(EndpointError, match=r"failed 2 times.*half a body"):
        ask(server, retry={"max_attempts": 2})


def test_a_refused_request_is_not_tried_again(server):
    server.failures = [(404, {}), (404, {})]
    with pytest.raises(EndpointError, match="404"):
        ask(server)
    assert len(server.failures) == 1


def test_a_wrong_key_says_which_variable_to_set_and_not_the_key(server):
    with pytest.raises(EndpointError, match="NIGHTFORGE_ENDPOINT_KEY") as failed:
        ask(server, key="another-secret")
    assert "another-secret" not in str(failed.value)


def test_another_model_behind_the_address_is_refused(server):
    server.model = "somebody else"
    with pytest.raises(EndpointError, match=r"answered as 'somebody else'.*Expected: base"):
        ask(server)


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 512 tokens.",
        "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",  # a prompt exactly as long as the context
    ],
)
def test_a_prompt_that_does_not_fit_has_its_own_error(server, message):
    server.too_long, server.too_long_message = lambda body: True, message
    with pytest.raises(PromptTooLongError):
        ask(server)


def test_no_more_requests_are_in_flight_than_asked_for(server):
    server.delay_s = 0.02
    ask(server, [str(i) for i in range(20)], concurrency=3)
    assert server.most_in_flight == 3


def test_lone_surrogates_do_not_reach_a_file(server):
    server.answer = lambda text: "broken \ud800 text"
    answers, _ = ask(server)
    answers["hello"].text.encode("utf-8")
