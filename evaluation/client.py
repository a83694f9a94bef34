"""An asynchronous client of one OpenAI-compatible endpoint: bounded concurrency, retries, named errors.

Works with any server that speaks the protocol. The key is sent as a header and is part of no message.

Source: https://platform.openai.com/docs/api-reference/chat; retry with full jitter after
https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp

from evaluation.endpoint import KEY_VARIABLE, Endpoint
from voc.errors import EndpointError
from voc.prompts import Message

MAX_ATTEMPTS = 6
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 600.0
# How vLLM refuses a prompt that leaves no room for an answer: longer than the context, or exactly as long.
_TOO_LONG = ("maximum context length", "max_tokens must be at least 1, got 0")
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_MAX_SHOWN = 300


class RequestRefusedError(EndpointError):
    """The server understood the request and does not want it (400 or 422)."""


class PromptTooLongError(RequestRefusedError):
    """One prompt does not fit the model's context; the others may."""


class _TransientError(Exception):
    def __init__(self, problem: str, retry_after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    Attributes:
        text: What the model wrote.
        finish_reason: `stop`, `length` or what else the server says.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the answer.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class EndpointClient:
    """Sends requests to one endpoint; use it with `async with`.

    Args:
        endpoint: Where, and under which name.
        key: The shared key.
        concurrency: Requests in flight at most.
        max_attempts: Tries of one request, the first included.
        first_delay_s: Mean wait before the second try doubles with each further one.
        request_timeout_s: Longest wait for one answer.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        *,
        concurrency: int,
        max_attempts: int = MAX_ATTEMPTS,
        first_delay_s: float = FIRST_DELAY_S,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self.endpoint = endpoint
        self.retries = 0
        self._key = key
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._max_attempts = max_attempts
        self._first_delay_s = first_delay_s
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_s, connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=self._timeout,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        response_format: Mapping[str, Any] | None = None,
        keep_last_tokens: int | None = None,
    ) -> Completion:
        """Ask for one greedy answer to a chat; with `keep_last_tokens`, to the end of a chat that is too long.

        Raises:
            PromptTooLongError: If the chat does not fit the context.
            EndpointError: As `post`; also if the answer is not of the shape that the protocol promises.
        """
        body: dict[str, Any] = {"messages": list(messages), "max_tokens": max_tokens, "temperature": 0}
        if response_format is not None:
            body["response_format"] = response_format
        if keep_last_tokens is not None:
            body["truncate_prompt_tokens"] = keep_last_tokens
        answer = await self.post("/chat/completions", body)
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            return Completion(
                text=_to_valid_text(choice["message"]["content"] or ""),
                finish_reason=str(choice["finish_reason"]),
                prompt_tokens=int(usage["prompt_tokens"]),
                completion_tokens=int(usage["completion_tokens"]),
            )
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointError(
                f"{self.endpoint.url} answered {answer!r:.{_MAX_SHOWN}}, without {error}",
                expected="choices[0].message.content, choices[0].finish_reason and usage",
            ) from error

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request for this endpoint's model and return the answer; transient failures are tried again.

        Transient are 408, 409, 425, 429, 500, 502, 503, 504, timeouts and broken connections. `Retry-After` is obeyed.

        Raises:
            PromptTooLongError: If the prompt does not fit the context.
            EndpointError: If the server refuses the request, another model answers, or every try failed.
        """
        async with self._slots:
            for attempt in range(1, self._max_attempts + 1):
                try:
                    return await self._post_once(path, {**body, "model": self.endpoint.model})
                except _TransientError as error:
                    if attempt == self._max_attempts:
                        raise EndpointError(
                            f"{self.endpoint.url}{path} failed {attempt} times, the last time with: {error}",
                            remedy="look at the serve job's log; fewer requests in flight (concurrency) may help",
                        ) from error
                    self.retries += 1
                    await asyncio.sleep(self._delay_s(attempt, error.retry_after_s))
        raise EndpointError("max_attempts is less than 1")

    def _delay_s(self, attempt: int, retry_after_s: float) -> float:
        ceiling = min(2 * self._first_delay_s * 2 ** (attempt - 1), MAX_DELAY_S)
        return max(random.uniform(0, ceiling), min(retry_after_s, MAX_DELAY_S))

    async def _post_once(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("use the client with `async with`")
        try:
            async with self._session.post(f"{self.endpoint.url}{path}", json=body) as response:
                if response.status != HTTPStatus.OK:
                    self._raise_for(response.status, await response.text(), response.headers.get("Retry-After", ""))
                answer = await response.json(content_type=None)
        except TimeoutError as error:
            raise _TransientError(f"no answer within {self._timeout.total} s") from error
        except aiohttp.ClientError as error:
            raise _TransientError(f"{type(error).__name__}: {error}") from error
        except ValueError as error:
            raise _TransientError(f"an answer that is not JSON: {error}") from error
        seen = answer.get("model") if isinstance(answer, dict) else None
        if seen != self.endpoint.model:
            raise EndpointError(
                f"{self.endpoint.url} answered as {seen!r}",
                expected=self.endpoint.model,
                remedy="another server took the address: run serve again",
            )
        return dict(answer)

    def _raise_for(self, status: int, text: str, retry_after: str) -> None:
        shown = " ".join(text.split())[:_MAX_SHOWN]
        if status in _RETRIED:
            raise _TransientError(f"{status}: {shown}", float(retry_after) if retry_after.isdigit() else 0.0)
        if status == HTTPStatus.BAD_REQUEST and any(said in text for said in _TOO_LONG):
            raise PromptTooLongError(shown, remedy="raise serving.max_model_len")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise EndpointError(
                f"{self.endpoint.url} refuses the key ({status})",
                remedy=f"set the same {KEY_VARIABLE} for the server and its clients",
            )
        refused = status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
        raise (RequestRefusedError if refused else EndpointError)(
            f"{self.endpoint.url} answered {status}: {shown}",
            expected=f"200 from a server of {self.endpoint.model!r}",
            remedy="look at the serve job's log",
        )


async def gather_all(requests: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run requests together; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for request in requests:
                group.create_task(request)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _to_valid_text(text: str) -> str:
    """Replace lone surrogates, which JSON may carry and UTF-8 files may not."""
    return text.encode("utf-8", "replace").decode("utf-8")
