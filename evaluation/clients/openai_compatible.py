"""An asynchronous client of one OpenAI-compatible endpoint: bounded concurrency, retries, named errors.

Works with any server that speaks the protocol. The key is sent as a header and is part of no message. A server that is
restarted after a crash is waited for (`evaluation.clients.retry`).

Source: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp

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

CONNECT_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_S = 600.0
# How vLLM refuses a prompt that leaves no room for an answer: longer than the context, or exactly as long.
_TOO_LONG = ("maximum context length", "max_tokens must be at least 1, got 0")
_MAX_SHOWN = 300


class EndpointClient(ChatClient):
    """Sends requests to one endpoint; use it with `async with`.

    Args:
        endpoint: Where, and under which name.
        key: The shared key.
        concurrency: Requests in flight at most.
        policy: When a request is sent again; None: as the endpoint's record says, else the defaults.
        request_timeout_s: Longest wait for one answer.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        *,
        concurrency: int,
        policy: RetryPolicy | None = None,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        super().__init__(
            endpoint,
            policy=policy,
            remedy="look at the serve job's log; fewer requests in flight (concurrency) may help",
        )
        self._key = key
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._timeout = aiohttp.ClientTimeout(total=request_timeout_s, connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=self._timeout,
        )

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _answer(self, chat: Chat) -> Completion:
        body: dict[str, Any] = {
            "messages": list(chat.messages),
            "max_tokens": chat.max_tokens,
            "temperature": 0,
            **chat.settings,
        }
        if chat.response_format is not None:
            body["response_format"] = chat.response_format
        if chat.keep_last_tokens is not None:
            body["truncate_prompt_tokens"] = chat.keep_last_tokens
        answer = await self.post("/chat/completions", body)
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            return Completion(
                text=to_valid_text(choice["message"]["content"] or ""),
                finish_reason=str(choice["finish_reason"]),
                prompt_tokens=int(usage["prompt_tokens"]),
                completion_tokens=int(usage["completion_tokens"]),
                cached_tokens=_read_cached_tokens(usage),
            )
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointError(
                f"{self.endpoint.url} answered {answer!r:.{_MAX_SHOWN}}, without {error}",
                expected="choices[0].message.content, choices[0].finish_reason and usage",
            ) from error

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request for this endpoint's model and return the answer; transient failures are tried again.

        Transient are 408, 409, 425, 429, 500, 502, 503, 504, timeouts, half a body and broken connections. `Retry-After` is
        obeyed.

        Raises:
            PromptTooLongError: If the prompt does not fit the context.
            EndpointError: If the server refuses the request, another model answers, or every try failed.
        """
        whole = {**body, "model": self.endpoint.model}
        async with self._slots:
            return await self._retrier.send(lambda: self._post_once(path, whole), f"{self.endpoint.url}{path}")

    async def _post_once(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("use the client with `async with`")
        try:
            async with self._session.post(f"{self.endpoint.url}{path}", json=body, allow_redirects=False) as response:
                if response.status != HTTPStatus.OK:
                    self._raise_for(response.status, await response.text(), response.headers.get("Retry-After", ""))
                answer = await response.json(content_type=None)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}") from error
        except TimeoutError as error:
            raise TransientError(f"no answer within {self._timeout.total} s", name="timeout") from error
        except aiohttp.ClientPayloadError as error:
            raise TransientError(f"half a body: {error}", name="half_body") from error
        except aiohttp.ClientError as error:
            raise TransientError(f"{type(error).__name__}: {error}", name="disconnected") from error
        except ValueError as error:
            raise TransientError(f"an answer that is not JSON: {error}", name="half_body") from error
        seen = answer.get("model") if isinstance(answer, dict) else None
        if seen != self.endpoint.answers_as:
            raise EndpointError(
                f"{self.endpoint.url} answered as {seen!r}",
                expected=self.endpoint.answers_as,
                remedy="another server took the address: run serve again",
            )
        return dict(answer)

    def _raise_for(self, status: int, text: str, retry_after: str) -> None:
        shown = " ".join(text.split())[:_MAX_SHOWN]
        if status in RETRIED_STATUS:
            wait_s = float(retry_after) if retry_after.isdigit() else 0.0
            raise describe_status(status, f"{status}: {shown}", wait_s)
        if status == HTTPStatus.BAD_REQUEST and any(said in text for said in _TOO_LONG):
            raise PromptTooLongError(shown, remedy="raise serving.max_model_len")
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise EndpointError(
                f"{self.endpoint.url} refuses the key ({status})",
                remedy=f"set the same {self.endpoint.key_variable} for the server and its clients",
            )
        refused = status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
        raise (RequestRefusedError if refused else EndpointError)(
            f"{self.endpoint.url} answered {status}: {shown}",
            expected=f"200 from a server of {self.endpoint.model!r}",
            remedy="look at the serve job's log",
        )


def _read_cached_tokens(usage: Mapping[str, Any]) -> int | None:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    return None if cached is None else int(cached)
