"""An asynchronous client of one Bedrock model through Converse, with the interface of the OpenAI client.

Greedy. The text of an answer is its first *text* block: reasoning comes in blocks of its own before it and is skipped.
Throttling, 5xx, timeouts, half a body and a model that is not ready are tried again (`evaluation.clients.retry`).

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from botocore import exceptions
from botocore.parsers import ResponseParserError

from evaluation.clients.interface import (
    Chat,
    ChatClient,
    Completion,
    PromptTooLongError,
    RequestRefusedError,
    to_valid_text,
)
from evaluation.clients.retry import RETRIED_STATUS, RetryPolicy, TransientError, UnreachableError, describe_status
from evaluation.serving.endpoint import Endpoint
from voc.errors import EndpointError
from voc.preflight.bedrock import explain, make_client

# Stop reasons by the names of the OpenAI protocol, which lines and measures use.
_FINISH_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length"}
# Not ready and too slow have statuses of their own (424: the model itself failed on this request).
_RETRIED_CODES = frozenset({"ModelNotReadyException", "ModelTimeoutException", "ModelErrorException"})
_TOO_LONG = ("input is too long", "too many input tokens", "maximum context length", "exceeds the maximum")
_INFERENCE_NAMES = {"temperature": "temperature", "top_p": "topP", "stop": "stopSequences"}
_PROMISED = frozenset({"output", "stopReason", "usage"})
_MAX_SHOWN = 300


class BedrockClient(ChatClient):
    """Sends requests for one model.

    Args:
        endpoint: Model, region, and another address if there is one.
        concurrency: Requests in flight at most.
        policy: When a request is sent again; None: as the endpoint's record says, else the defaults.
    """

    def __init__(self, endpoint: Endpoint, *, concurrency: int, policy: RetryPolicy | None = None) -> None:
        super().__init__(
            endpoint, policy=policy, remedy="fewer requests in flight (concurrency), or ask for a higher quota"
        )
        self._concurrency = concurrency
        self._threads: ThreadPoolExecutor | None = None
        self._client: Any = None

    def _open(self) -> None:
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="bedrock")
        url, region = self.endpoint.url, self.endpoint.region
        self._client = make_client("bedrock-runtime", region, url, connections=self._concurrency)

    async def _close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, chat: Chat) -> Completion:
        return await self.ask(build_request(chat))

    async def ask(self, request: Mapping[str, Any]) -> Completion:
        """Send one request in Converse's form and return its answer; raises as `chat`."""
        return read_answer(await self._retrier.send(lambda: self._send_once(request), self.endpoint.model))

    async def _send_once(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self._threads is None:
            raise RuntimeError("use the client with `async with`")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._converse, request)

    def _converse(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with translate_errors(self.endpoint.model, self.endpoint.region):
            answer = dict(self._client.converse(modelId=self.endpoint.model, **request))
        if _PROMISED - answer.keys():  # botocore takes a body that is cut off for an answer without members
            raise TransientError("half a body: an answer without its members", name="half_body")
        return answer


@contextmanager
def translate_errors(model: str, region: str) -> Iterator[None]:
    """Raise what botocore raises as what it means: try again, wait for it, too long, refused, or a named error for good."""
    try:
        yield
    except exceptions.ClientError as error:
        raise _sort_error(error, model, region) from error
    except exceptions.ReadTimeoutError as error:
        raise TransientError(str(error), name="timeout") from error
    except exceptions.ConnectionError as error:
        raise UnreachableError(str(error)) from error
    except ResponseParserError as error:
        raise TransientError(f"half a body: {error}", name="half_body") from error
    except exceptions.HTTPClientError as error:
        raise TransientError(str(error), name="disconnected") from error
    except exceptions.BotoCoreError as error:
        raise explain(error, model, region) from error


def build_request(chat: Chat) -> dict[str, Any]:
    """Return a chat in Converse's form, which is also the `modelInput` of a batch row; no model is named.

    Raises:
        EndpointError: If only the end of a chat is asked for, or `settings` have a field of the OpenAI protocol that Converse has
            no counterpart of.
    """
    if chat.keep_last_tokens is not None:
        raise EndpointError("Bedrock does not cut prompts", remedy="shorten the questions, or choose another model")
    wishes = {"temperature": 0, **chat.settings}
    unknown = sorted(wishes.keys() - _INFERENCE_NAMES.keys())
    if unknown:
        raise EndpointError(
            f"Bedrock has no {', '.join(unknown)}",
            expected=f"only {', '.join(_INFERENCE_NAMES)} beside the chat",
            remedy="measure this model with other suites",
        )
    system = [{"text": message["content"]} for message in chat.messages if message["role"] == "system"]
    request: dict[str, Any] = {
        "messages": [
            {"role": message["role"], "content": [{"text": message["content"]}]}
            for message in chat.messages
            if message["role"] != "system"
        ],
        "inferenceConfig": {
            "maxTokens": chat.max_tokens,
            **{_INFERENCE_NAMES[name]: value for name, value in wishes.items()},
        },
    }
    if system:
        request["system"] = system
    if chat.response_format is not None:
        wanted = chat.response_format["json_schema"]
        schema = {"name": wanted["name"], "schema": json.dumps(wanted["schema"], ensure_ascii=False)}
        request["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    return request


def read_answer(answer: Mapping[str, Any]) -> Completion:
    """Return the first text block of Converse's answer; an answer of reasoning alone is an empty text.

    Raises:
        EndpointError: If it is not of the shape that the service promises.
    """
    try:
        blocks, usage, reason = answer["output"]["message"]["content"], answer["usage"], str(answer["stopReason"])
        texts = [block["text"] for block in blocks if "text" in block]
        return Completion(
            text=to_valid_text(texts[0] if texts else ""),
            finish_reason=_FINISH_REASONS.get(reason, reason),
            prompt_tokens=int(usage["inputTokens"]),
            completion_tokens=int(usage["outputTokens"]),
            cached_tokens=usage.get("cacheReadInputTokens"),
        )
    except (KeyError, TypeError) as error:
        raise EndpointError(
            f"Bedrock answered {answer!r:.{_MAX_SHOWN}}, without {error}",
            expected="output.message.content, stopReason and usage",
        ) from error


def _sort_error(error: exceptions.ClientError, model: str, region: str) -> Exception:
    """Return what a bad answer means: try again, too long, refused, or a named error for good."""
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code, said = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    if status in RETRIED_STATUS or code in _RETRIED_CODES:
        return describe_status(status, f"{code}: {said}"[:_MAX_SHOWN])
    if code == "ValidationException" and any(words in said.lower() for words in _TOO_LONG):
        return PromptTooLongError(
            said[:_MAX_SHOWN], remedy="shorten the prompt, or choose a model with a longer context"
        )
    named = explain(error, model, region)
    if code == "ValidationException":
        return RequestRefusedError(named.problem, remedy=named.remedy)
    return named
