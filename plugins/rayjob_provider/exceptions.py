"""Named errors of Ray jobs: what was seen, what was expected, what to do, and the last log lines where there are any.

All of them cross process borders (worker, triggerer, supervisor), so each one survives pickle with its fields.
"""

# ruff: noqa: N818  (the names say what happened to a job; not all of it is an error of this program)

from __future__ import annotations

from airflow.sdk.exceptions import AirflowException


class RayJobError(AirflowException):
    """Base of every error this provider raises about a job or its cluster.

    Args:
        message: What was seen, what was expected, what to do.
        submission_id: The job it is about, where there is one.
        log_tail: The job's last log lines, oldest first; printed below the message.
    """

    def __init__(self, message: str, submission_id: str | None = None, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.submission_id = submission_id
        self.log_tail = tuple(log_tail)

    def __str__(self) -> str:
        if not self.log_tail:
            return self.message
        return "\n".join((self.message, f"Last {len(self.log_tail)} log lines of the job:", *self.log_tail))

    def __reduce__(self) -> tuple[type[RayJobError], tuple[str, str | None, tuple[str, ...]]]:
        return type(self), (self.message, self.submission_id, self.log_tail)


class RayJobFailed(RayJobError):
    """The job ended as FAILED: its entrypoint failed, or Ray could not start it."""


class RayJobStopped(RayJobError):
    """The job ended as STOPPED: somebody, or this task's own kill, stopped it."""


class RayJobTimeout(RayJobError):
    """The job was not done within `timeout_s` and was told to stop."""


class RayJobNotFound(RayJobError):
    """The cluster does not know the job (any more): it was deleted, or the head lost its state in a restart."""


class RayJobStillRunning(RayJobError):
    """A job that was told to stop goes on running."""


class RayJobExists(RayJobError):
    """A submission was refused because the id is taken; whoever asks should look at that job first."""


class RayJobRejected(RayJobError):
    """The cluster refused a request for what it says (HTTP 4xx): the same request will be refused again."""


class RayJobsUnreachable(RayJobError):
    """The Jobs API gives no usable answer (refused, timed out, HTTP 5xx, not Ray): later it may."""


class RayAuthError(RayJobError):
    """The Jobs API is there and refuses the token (HTTP 401 or 403)."""
