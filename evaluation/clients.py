"""The one interface of everything that answers chats, and which client speaks to which kind of endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from evaluation.client import Completion, EndpointClient
from evaluation.endpoint import Endpoint, read_key
from voc.prompts import Message


class ChatClient(Protocol):
    """Answers chats; used with `async with`.

    Attributes:
        endpoint: Who answers.
        retries: Further tries of all requests so far.
        retried: The same by the name of what made them needed.
    """

    endpoint: Endpoint

    @property
    def retries(self) -> int:
        """Return the further tries."""

    @property
    def retried(self) -> Counter[str]:
        """Return the further tries by name."""

    async def __aenter__(self) -> Self:
        """Open connections."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        response_format: Mapping[str, Any] | None = None,
        keep_last_tokens: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Completion:
        """Return one answer, greedy unless `settings` say otherwise."""


def open_client(endpoint: Endpoint, *, concurrency: int) -> ChatClient:
    """Return the client of an endpoint's kind, with at most `concurrency` requests in flight, or fewer if the endpoint says so.

    Raises:
        ConfigError: If the endpoint's key is not in the environment.
    """
    concurrency = min(concurrency, endpoint.concurrency or concurrency)
    if endpoint.kind != "bedrock":
        return EndpointClient(endpoint, read_key(endpoint.key_variable), concurrency=concurrency)
    # boto3 costs half a second, which other kinds need not pay
    if endpoint.batch is not None:
        from evaluation.bedrock_batch import BedrockBatchClient

        return BedrockBatchClient(endpoint, concurrency=concurrency)
    from evaluation.bedrock import BedrockClient

    return BedrockClient(endpoint, concurrency=concurrency)
