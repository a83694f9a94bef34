"""Make sure that a job runs: reattach to a live one, keep a finished one, run a failed one again under the same id.

Two facts about Ray 2.60 shape this file. The same id again is an HTTP 500, so the cluster is asked before it is told. And
a record that is deleted and submitted again within about a second of its end is killed by the monitor of its predecessor
(measured: always at 0.5 and 1 s, never at 2 and 3 s), so a resubmission waits until `RESUBMIT_QUIET_S` have passed.
"""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rayjob_provider.exceptions import RayJobError, RayJobExists, RayJobNotFound, RayJobsUnreachable
from rayjob_provider.job import SUCCEEDED, JobDetails, JobRequest
from rayjob_provider.job_log import JobLogCursor, LineLog

RESUBMIT_QUIET_S = 5.0
MAX_BACKOFF_S = 30.0
MAX_ATTEMPTS = 20


class Jobs(Protocol):
    """The part of `RayJobHook` that this file needs."""

    def find(self, submission_id: str) -> JobDetails | None:
        """Return the details, or None."""

    def submit(self, request: JobRequest, *, log_start: int = 0) -> None:
        """Submit once."""

    def delete(self, submission_id: str) -> None:
        """Delete the record of a job that is over."""

    def logs(self, submission_id: str, cursor: JobLogCursor, *, is_final: bool = False) -> list[str]:
        """Move the cursor and return the new lines."""


class Origin(enum.Enum):
    """Where the job that a task now has came from."""

    SUBMITTED = "submitted"
    REATTACHED = "already there and alive"
    KEPT = "already succeeded"


@dataclass(frozen=True)
class Submission:
    """A job that is known to the cluster."""

    details: JobDetails
    origin: Origin


class JobSubmitter:
    """Bring one request to the state "known to the cluster and not failed", whatever the state before was.

    Args:
        jobs: The cluster.
        rerun_succeeded: Run a job that has succeeded once more instead of keeping its result.
        tolerate_unreachable_s: How long one outage of the API may last.
        sleep: For tests.
    """

    def __init__(
        self, jobs: Jobs, *, rerun_succeeded: bool = False, tolerate_unreachable_s: float = 300.0,
        log: LineLog | None = None, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._jobs = jobs
        self._rerun_succeeded = rerun_succeeded
        self._tolerate_unreachable_s = tolerate_unreachable_s
        self._log = log or logging.getLogger(__name__)
        self._sleep = sleep
        self._num_attempts = 0
        self._is_ours = False
        self._log_start = 0

    def ensure(self, request: JobRequest) -> Submission:
        """Return once the job is accepted, alive, or kept.

        Every step begins with a look at the cluster, so a lost answer, a second submitter or a restarting head changes
        nothing: the next step sees what really happened.

        Raises:
            RayJobsUnreachable: If the API gives no usable answer for longer than tolerated.
            RayJobRejected, RayAuthError: At once.
            RayJobError: If Ray goes on refusing to start the job.
        """
        outage_since: float | None = None
        delay_s = 1.0
        while True:
            try:
                submission = self._step(request)
                outage_since, delay_s = None, 1.0
            except RayJobsUnreachable as error:
                now = time.monotonic()
                outage_since = outage_since if outage_since is not None else now
                if now - outage_since + delay_s > self._tolerate_unreachable_s:
                    raise
                self._log.warning("%s Trying again in %.0f s.", error.message, delay_s)
                self._sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_BACKOFF_S)
                continue
            if submission is not None:
                return submission

    def _step(self, request: JobRequest) -> Submission | None:
        """Look once and do one thing; None means: look again."""
        details = self._jobs.find(request.submission_id)
        if details is None:
            self._submit(request)
            return None
        if self._is_ours and not details.is_name_collision:
            return Submission(details, Origin.SUBMITTED)  # Also when it is over already: it was ours.
        if not details.is_terminal:
            return Submission(details, Origin.REATTACHED)
        if details.status == SUCCEEDED and not self._rerun_succeeded:
            return Submission(details, Origin.KEPT)
        self._replace(request, details)
        return None

    def _submit(self, request: JobRequest) -> None:
        if self._num_attempts >= MAX_ATTEMPTS:
            raise RayJobError(
                f"Ray was given the job {request.submission_id} {MAX_ATTEMPTS} times and never kept it; expected it to start."
                " Look for its name in the head's dashboard.log and gcs_server.out.",
                request.submission_id,
            )
        self._num_attempts += 1
        self._is_ours = True  # Before the request: its answer may get lost.
        try:
            self._jobs.submit(request, log_start=self._log_start)
        except RayJobExists:
            self._is_ours = False
            self._log.info("Somebody else submitted %s in the same moment.", request.submission_id)

    def _replace(self, request: JobRequest, old: JobDetails) -> None:
        self._log.info(
            "Job %s is %s from an earlier run; submitting it again under the same id.", old.submission_id, old.status
        )
        age_s = time.time() - old.ended_at_s if old.ended_at_s else 0.0
        if age_s < RESUBMIT_QUIET_S:
            self._sleep(RESUBMIT_QUIET_S - max(age_s, 0.0))
        self._log_start = self._measure_log(old)
        self._jobs.delete(old.submission_id)
        self._submit(request)

    def _measure_log(self, old: JobDetails) -> int:
        """Return the length of the log that the runs before left: Ray appends the next run's log to the same file."""
        cursor = JobLogCursor(position=old.log_start, limit_chars=0)
        try:
            self._jobs.logs(old.submission_id, cursor, is_final=True)
        except (RayJobsUnreachable, RayJobNotFound) as error:
            self._log.warning(
                "The log of the earlier run will be shown again, its length is unknown: %s", error.message
            )
            return old.log_start
        return cursor.position
