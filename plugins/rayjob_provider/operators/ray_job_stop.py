"""Stop a job: the teardown of a server that `RayJobOperator(wait_for="submission")` started."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator

from rayjob_provider.exceptions import RayJobError, RayJobNotFound, RayJobStillRunning, RayJobsUnreachable
from rayjob_provider.hooks.ray_job import RayJobHook
from rayjob_provider.job import PENDING, JobDetails
from rayjob_provider.job_log import TAIL_LINES, JobLogCursor
from rayjob_provider.links.ray_job import RayDashboardLink
from rayjob_provider.submission_id import resolve_submission_id

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

UNKNOWN = "UNKNOWN"
_T = TypeVar("_T")


class RayJobStopOperator(BaseOperator):
    """Stop a job and wait until it is over. A job that is over already, or that the cluster does not know, is fine.

    A job that still waits for resources cannot be taken from Ray's queue: Ray notes the wish and stops the job the moment
    it starts (2.60). It holds nothing until then, so the task succeeds with status PENDING and a warning.

    XCom: `{"submission_id": ..., "status": ...}`, status UNKNOWN where the cluster has no such job.

    Args:
        submission_id: As for `RayJobOperator`. Templated.
        stop_timeout_s: How long the job may take to end. Ray itself kills what is alive 3 s after the signal
            (the head's RAY_JOB_STOP_WAIT_TIME_S).
        num_log_lines: How many of its last log lines to print; at most 40.
        tolerate_unreachable_s: How long one outage of the Jobs API may last.
        ray_conn_id: Airflow connection of type `ray`. Templated.
    """

    template_fields: Sequence[str] = ("submission_id", "ray_conn_id")
    operator_extra_links: Sequence[BaseOperatorLink] = (RayDashboardLink(),)
    ui_color = "#f0f0f0"

    def __init__(
        self,
        *,
        submission_id: str | Sequence[str],
        stop_timeout_s: float = 60.0,
        num_log_lines: int = 20,
        poll_interval_s: float = 1.0,
        tolerate_unreachable_s: float = 120.0,
        ray_conn_id: str = RayJobHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= num_log_lines <= TAIL_LINES:
            raise ValueError(f"num_log_lines must be between 0 and {TAIL_LINES}, got {num_log_lines!r}.")
        self.submission_id = submission_id
        self.stop_timeout_s = stop_timeout_s
        self.num_log_lines = num_log_lines
        self.poll_interval_s = poll_interval_s
        self.tolerate_unreachable_s = tolerate_unreachable_s
        self.ray_conn_id = ray_conn_id
        self.job_page = ""

    def execute(self, context: Context) -> dict[str, str]:
        """Stop the job."""
        hook = RayJobHook(self.ray_conn_id)
        job_id = resolve_submission_id(self.submission_id)
        self.job_page = hook.endpoint.job_page(job_id)
        details = self._persist(lambda: hook.find(job_id))
        if details is not None and not details.is_terminal:
            details = self._stop(hook, job_id)
        if details is None:
            self.log.info("The cluster knows no job %s; nothing to stop.", job_id)
            return {"submission_id": job_id, "status": UNKNOWN}
        self._print_log(hook, details)
        self.log.info("Ray job %s is %s.", job_id, details.status)
        return {"submission_id": job_id, "status": details.status}

    def _stop(self, hook: RayJobHook, job_id: str) -> JobDetails | None:
        try:
            self._persist(lambda: hook.stop(job_id))
        except RayJobNotFound:
            return None
        give_up_at = time.monotonic() + self.stop_timeout_s
        while True:
            details = self._persist(lambda: hook.find(job_id))
            if details is None or details.is_terminal:
                return details
            if time.monotonic() > give_up_at:
                break
            time.sleep(self.poll_interval_s)
        if details.status == PENDING:
            self.log.warning(
                "Ray job %s is still PENDING (%s); Ray will stop it as soon as it starts.", job_id, details.message
            )
            return details
        raise RayJobStillRunning(
            f"Ray job {job_id} is {details.status} {self.stop_timeout_s:.0f} s after it was told to stop. Expected STOPPED:"
            f" look at it in the Ray dashboard ({self.job_page}) and raise stop_timeout_s if it needs longer to end.",
            job_id,
        )

    def _persist(self, call: Callable[[], _T]) -> _T:
        """Make a call that may be repeated until it gets an answer, as long as outages are tolerated."""
        give_up_at = time.monotonic() + self.tolerate_unreachable_s
        while True:
            try:
                return call()
            except RayJobsUnreachable as error:
                if time.monotonic() + self.poll_interval_s > give_up_at:
                    raise
                self.log.warning("%s", error.message)
                time.sleep(self.poll_interval_s)

    def _print_log(self, hook: RayJobHook, details: JobDetails) -> None:
        if not self.num_log_lines:
            return
        cursor = JobLogCursor(position=details.log_start, limit_chars=0, secrets=hook.endpoint.secrets)
        try:
            hook.logs(details.submission_id, cursor, is_final=True)
        except RayJobError as error:
            self.log.warning("Its log cannot be read: %s", error.message)
        for line in list(cursor.tail)[-self.num_log_lines :]:
            self.log.info("%s", line)
