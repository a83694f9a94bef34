"""When a request to a model is sent again, and when that ends.

Failures are of two kinds and end in two ways. A server that *answered* badly (500, half a body, nothing in time) is asked
`max_attempts` times. One that says *later* (429: a quota counts by the minute) or *cannot be reached* (it is perhaps restarting
after a crash, which takes as long as loading a model) is asked until `patience_s` have passed in which nothing else was seen.
Every further try is counted under the name of what went wrong.

Source: full jitter after https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from voc.errors import EndpointError

MAX_ATTEMPTS = 6
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
PATIENCE_S = 900.0
RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
T = TypeVar("T")


class TransientError(Exception):
    """An answer that another try may better.

    Args:
        problem: What was seen.
        name: What it is counted as: a status, `timeout`, `half_body`, `disconnected`, `throttled`.
        retry_after_s: The shortest wait that the server asks for.
    """

    def __init__(self, problem: str, *, name: str, retry_after_s: float = 0.0) -> None:
        super().__init__(problem)
        self.name = name
        self.retry_after_s = retry_after_s


class LaterError(TransientError):
    """The server is there, and does not take the request now."""


class UnreachableError(LaterError):
    """Nobody listens at the address, for now."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, name="unreachable")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long.

    Attributes:
        max_attempts: Tries of one request that was answered badly, the first included.
        first_delay_s: Mean wait before the second try; it doubles with each further one, up to 30 s.
        patience_s: How long a server that cannot be reached, or says "later", is waited for.
    """

    max_attempts: int = MAX_ATTEMPTS
    first_delay_s: float = FIRST_DELAY_S
    patience_s: float = PATIENCE_S


class Retrier:
    """Sends until it works, for all requests of one client.

    Attributes:
        counts: Further tries by the name of what made them needed.
    """

    def __init__(self, policy: RetryPolicy, remedy: str) -> None:
        self._policy = policy
        self._remedy = remedy
        self.counts: Counter[str] = Counter()

    async def send(self, send_once: Callable[[], Awaitable[T]], what: str) -> T:
        """Return the result of `send_once`, called again after a `TransientError`.

        Raises:
            EndpointError: If every try failed; `what` names the request.
        """
        answered, tried, waiting_since = 0, 0, None
        while True:
            try:
                return await send_once()
            except TransientError as error:
                tried += 1
                if isinstance(error, LaterError):
                    waiting_since = waiting_since or time.monotonic()
                    is_over = time.monotonic() - waiting_since >= self._policy.patience_s
                else:
                    answered, waiting_since = answered + 1, None
                    is_over = answered >= self._policy.max_attempts
                if is_over:
                    raise EndpointError(
                        f"{what} failed {tried} times, the last time with: {error}", remedy=self._remedy
                    ) from error
                self.counts[error.name] += 1
                await asyncio.sleep(self._delay_s(tried, error.retry_after_s))

    def _delay_s(self, tried: int, retry_after_s: float) -> float:
        doublings = min(tried - 1, 16)  # a patient wait has many tries
        ceiling = min(2 * self._policy.first_delay_s * 2**doublings, MAX_DELAY_S)
        return max(random.uniform(0, ceiling), min(retry_after_s, MAX_DELAY_S))


def describe_status(status: int, problem: str, retry_after_s: float = 0.0) -> TransientError:
    """Return the error of a status that another try may better."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return LaterError(problem, name="throttled", retry_after_s=retry_after_s)
    return TransientError(problem, name=str(status), retry_after_s=retry_after_s)
