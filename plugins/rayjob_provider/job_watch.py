"""Waiting for a job: poll its status, forward its log, live through outages of the API, give up by name.

The trigger runs this in the triggerer; a task that is not deferrable runs the same code in its worker.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rayjob_provider.exceptions import RayAuthError, RayJobError, RayJobNotFound, RayJobRejected, RayJobsUnreachable
from rayjob_provider.job import PENDING, JobDetails
from rayjob_provider.job_log import DEFAULT_LIMIT_CHARS, JobLogCursor, LineLog
from rayjob_provider.submission import MAX_BACKOFF_S

NOT_FOUND = "NOT_FOUND"
UNREACHABLE = "UNREACHABLE"
REFUSED = "REFUSED"
TIMED_OUT = "TIMED_OUT"
_FINAL_LOG_ATTEMPTS = 3


class AsyncJobs(Protocol):
    """The part of `AsyncRayJobs` that waiting needs."""

    async def status(self, submission_id: str) -> JobDetails:
        """Return the details."""

    async def stop(self, submission_id: str) -> None:
        """Ask Ray to stop the job."""

    async def logs(self, submission_id: str, cursor: JobLogCursor, *, is_final: bool = False) -> list[str]:
        """Move the cursor and return the new lines."""


@dataclass(frozen=True)
class WatchOptions:
    """How to wait. All of it travels through JSON between worker and triggerer.

    Attributes:
        poll_interval_s: Pause between two looks at the job.
        tolerate_unreachable_s: How long one outage of the API may last before waiting ends by name.
        deadline_s: Unix time at which the job is stopped; None waits without end.
        log_position: Characters of the job's log that are not this run's.
        log_limit_chars: How much of the log is forwarded.
    """

    poll_interval_s: float = 2.0
    tolerate_unreachable_s: float = 300.0
    deadline_s: float | None = None
    log_position: int = 0
    log_limit_chars: int = DEFAULT_LIMIT_CHARS

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class WatchResult:
    """How waiting ended: a terminal status of the job, or NOT_FOUND, UNREACHABLE, REFUSED, TIMED_OUT.

    Attributes:
        log_position: Where the log was forwarded to.
        is_log_complete: Whether the whole log was forwarded, as far as the limit allows.
    """

    submission_id: str
    outcome: str
    message: str = ""
    log_position: int = 0
    is_log_complete: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, the payload of a trigger event."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> WatchResult:
        """Read a payload."""
        return cls(**payload)


class JobWatch:
    """One wait for one job.

    Args:
        log: Gets the job's lines and what happens to the wait.
    """

    def __init__(
        self, submission_id: str, options: WatchOptions, log: LineLog, *, secrets: tuple[str, ...] = ()
    ) -> None:
        self._submission_id = submission_id
        self._options = options
        self._log = log
        self._cursor = JobLogCursor(position=options.log_position, limit_chars=options.log_limit_chars, secrets=secrets)
        self._reported: tuple[str, str] | None = None
        self._outage_since: float | None = None
        self._delay_s = options.poll_interval_s
        self._num_not_found = 0
        self._last_log_error = ""

    async def run(self, jobs: AsyncJobs) -> WatchResult:
        """Return when the job is over, or when waiting makes no sense any more. The job is stopped at the deadline only."""
        while True:
            try:
                details = await jobs.status(self._submission_id)
                self._note_answer(details)
                if details.is_terminal:
                    return self._result(details.status, details.message, is_log_complete=await self._forward_rest(jobs))
                if self._is_past_deadline():
                    await jobs.stop(self._submission_id)
                    return self._result(TIMED_OUT, details.message, is_log_complete=await self._forward_rest(jobs))
                await self._forward_new(jobs)
            except RayJobsUnreachable as error:
                if self._note_outage(error):
                    return self._result(UNREACHABLE, error.message)
            except RayJobNotFound as error:
                self._num_not_found += 1  # Once may be a head that is still loading its state.
                if self._num_not_found > 1:
                    return self._result(NOT_FOUND, error.message)
            except (RayAuthError, RayJobRejected) as error:
                return self._result(REFUSED, error.message)
            await asyncio.sleep(self._delay_s)

    def _is_past_deadline(self) -> bool:
        return self._options.deadline_s is not None and time.time() > self._options.deadline_s

    def _note_answer(self, details: JobDetails) -> None:
        if self._outage_since is not None:
            self._log.info("The Ray Jobs API answers again after %.0f s.", time.monotonic() - self._outage_since)
        self._outage_since, self._num_not_found, self._delay_s = None, 0, self._options.poll_interval_s
        if (details.status, details.message) == self._reported or details.is_terminal:
            return
        self._reported = (details.status, details.message)
        hint = (
            " (Ray gives up on a job that waits longer than RAY_JOB_START_TIMEOUT_SECONDS)"
            if details.status == PENDING
            else ""
        )
        self._log.info("Ray job %s is %s: %s%s", self._submission_id, details.status, details.message, hint)

    def _note_outage(self, error: RayJobError) -> bool:
        """Log the outage, lengthen the pause, and return whether it has lasted too long."""
        now = time.monotonic()
        self._outage_since = now if self._outage_since is None else self._outage_since
        lasted_s = now - self._outage_since
        if lasted_s >= self._options.tolerate_unreachable_s:
            return True
        self._log.warning(
            "%s Waiting for it since %.0f s, up to %.0f s.",
            error.message,
            lasted_s,
            self._options.tolerate_unreachable_s,
        )
        remaining_s = self._options.tolerate_unreachable_s - lasted_s
        self._delay_s = max(0.01, min(2 * self._delay_s, MAX_BACKOFF_S, remaining_s))
        return False

    async def _forward_new(self, jobs: AsyncJobs) -> None:
        """Forward what is new. A log that cannot be read must not end the wait."""
        if self._cursor.is_exhausted:
            return
        try:
            self._emit(await jobs.logs(self._submission_id, self._cursor))
        except RayJobError as error:
            self._note_log_error(error)

    async def _forward_rest(self, jobs: AsyncJobs) -> bool:
        for attempt in range(_FINAL_LOG_ATTEMPTS):
            try:
                self._emit(await jobs.logs(self._submission_id, self._cursor, is_final=True))
                return True
            except RayJobError as error:
                self._note_log_error(error)
                await asyncio.sleep(0.5 * 2**attempt)
        return False

    def _emit(self, lines: list[str]) -> None:
        for line in lines:
            self._log.info("%s", line)

    def _note_log_error(self, error: RayJobError) -> None:
        if error.message != self._last_log_error:
            self._last_log_error = error.message
            self._log.warning("The job's log cannot be read at the moment: %s", error.message)

    def _result(self, outcome: str, message: str, *, is_log_complete: bool = False) -> WatchResult:
        return WatchResult(self._submission_id, outcome, message, self._cursor.position, is_log_complete)
