"""What every client that answers chats has in common: one way to ask, answers, refusals, and the count of further tries."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from evaluation.clients.retry import Retrier, RetryPolicy
from evaluation.serving.endpoint import Endpoint
from voc.errors import EndpointError
from voc.prompts import Message


class RequestRefusedError(EndpointError):
    """The server understood the request and does not want it (400 or 422)."""


class PromptTooLongError(RequestRefusedError):
    """One prompt does not fit the model's context; the others may."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    Attributes:
        text: What the model wrote.
        finish_reason: `stop`, `length` or what else the server says.
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens of the answer.
        cached_tokens: Tokens of the prompt that the engine had computed before; None if it does not tell.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat that is asked.

    Attributes:
        messages: What was said so far.
        max_tokens: Longest answer.
        response_format: Schema of the answer in the OpenAI protocol's form; None: free text.
        keep_last_tokens: Ask for the end of a chat that is too long, of so many tokens; None: such a chat is refused.
        settings: Further fields of the request, such as `stop`; greedy unless they say otherwise.
    """

    messages: Sequence[Message]
    max_tokens: int
    response_format: Mapping[str, Any] | None = None
    keep_last_tokens: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class ChatClient(ABC):
    """Answers chats; use it with `async with`.

    Args:
        endpoint: Who answers.
        policy: When a request is sent again; None: as the endpoint's record says, else the defaults.
        remedy: What to do when every try failed.
    """

    def __init__(self, endpoint: Endpoint, *, policy: RetryPolicy | None, remedy: str) -> None:
        self.endpoint = endpoint
        self._retrier = Retrier(policy or RetryPolicy(patience_s=endpoint.patience_s), remedy=remedy)

    @property
    def retries(self) -> int:
        """Further tries of all requests so far."""
        return self._retrier.counts.total()

    @property
    def retried(self) -> Counter[str]:
        """Further tries by the name of what made them needed."""
        return self._retrier.counts

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def chat(self, messages: Sequence[Message], *, max_tokens: int, **wishes: Any) -> Completion:
        """Ask for one greedy answer to a chat; `wishes` are the other fields of `Chat`.

        Raises:
            PromptTooLongError: If the chat does not fit the context.
            EndpointError: If the service refuses the request, every try failed, the answer is not of the shape that the
                service promises, or it cannot do what is wished for.
        """
        return await self._answer(Chat(messages, max_tokens, **wishes))

    @abstractmethod
    def _open(self) -> None:
        """Open connections."""

    @abstractmethod
    async def _close(self) -> None:
        """Close them."""

    @abstractmethod
    async def _answer(self, chat: Chat) -> Completion:
        """Answer one chat, or raise as `chat`."""


async def gather_all(requests: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run requests together; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for request in requests:
                group.create_task(request)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


def to_valid_text(text: str) -> str:
    """Replace lone surrogates, which JSON may carry and UTF-8 files may not, by U+FFFD, so that the damage can be counted."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
