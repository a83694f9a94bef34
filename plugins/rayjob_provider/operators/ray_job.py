"""The operators: run a job on a Ray cluster here, stop one in `ray_job_stop` (both can be imported from here).

A Ray job belongs to the task through its submission id, which is the same on every try: a retry, a cleared task or a
restarted worker finds the job again instead of starting a second one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk import BaseOperator

from rayjob_provider.exceptions import (
    RayAuthError,
    RayJobError,
    RayJobFailed,
    RayJobNotFound,
    RayJobStopped,
    RayJobsUnreachable,
    RayJobTimeout,
)
from rayjob_provider.hooks.ray_job import RayJobHook
from rayjob_provider.job import (
    FAILED,
    STOPPED,
    SUCCEEDED,
    JobDetails,
    JobRequest,
    check_variables,
    encode_arguments,
    join_entrypoint,
    to_number,
)
from rayjob_provider.job_log import DEFAULT_LIMIT_CHARS, JobLogCursor
from rayjob_provider.job_watch import NOT_FOUND, REFUSED, TIMED_OUT, UNREACHABLE, JobWatch, WatchOptions, WatchResult
from rayjob_provider.links.ray_job import RayDashboardLink
from rayjob_provider.operators.ray_job_stop import RayJobStopOperator
from rayjob_provider.submission import JobSubmitter, Origin
from rayjob_provider.submission_id import make_submission_id, resolve_submission_id
from rayjob_provider.triggers.ray_job import RayJobTrigger

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

__all__ = ["RayJobOperator", "RayJobStopOperator", "make_submission_id"]

WaitFor = Literal["completion", "submission"]
_ERROR_OF_OUTCOME: Mapping[str, type[RayJobError]] = {
    FAILED: RayJobFailed,
    STOPPED: RayJobStopped,
    TIMED_OUT: RayJobTimeout,
    NOT_FOUND: RayJobNotFound,
    UNREACHABLE: RayJobsUnreachable,
    REFUSED: RayAuthError,
}
_ADVICE_OF_OUTCOME: Mapping[str, str] = {
    FAILED: "Clear the task to run it again under the same id.",
    STOPPED: "Somebody stopped it, or this task was killed; clear the task to run it again.",
    TIMED_OUT: "It was told to stop; raise timeout_s if it needs longer.",
    UNREACHABLE: "The job was left alone and may still run: a retry reattaches to it.",
    REFUSED: "The job was left alone and may still run: mend the connection, then a retry reattaches to it.",
    NOT_FOUND: "A retry submits it again.",
}


class RayJobOperator(BaseOperator):
    """Run one job on a Ray cluster.

    Before anything is submitted the cluster is asked for the id: a job that is PENDING or RUNNING is taken over, one that
    SUCCEEDED is kept, one that FAILED or was STOPPED is deleted and submitted again under the same id. Killing the task
    stops the job, before and while it is deferred; a restart of Airflow's components does not.

    A job PENDING for resources waits as long as Ray allows: the head's RAY_JOB_START_TIMEOUT_SECONDS (15 minutes unless
    set) turns it into FAILED, so raise that where jobs queue for GPUs. `num_cpus`, `num_gpus`, `memory_bytes` and
    `custom_resources` reserve for the entrypoint itself, not for the Ray workers that it starts.

    XCom: `{"submission_id": ..., "status": ...}`.

    Args:
        entrypoint: Fixed words, e.g. `["python", "-m", "training"]`. No templates: it becomes a shell line on the cluster.
        submission_id: The id, or a list of parts that `make_submission_id` turns into one. Templated.
        arguments: Texts for the job, as a JSON list in its environment; they never meet a shell. Templated.
        arguments_env_var: Name of that environment variable.
        env_vars: More environment of the job. Templated; values are not logged.
        num_cpus: CPUs reserved for the entrypoint. Templated, as are the next three.
        metadata: Texts to show with the job in the Ray dashboard. Templated.
        wait_for: `completion`, or `submission` to return once the job is accepted: for a server in a setup task that
            `RayJobStopOperator` ends in its teardown.
        rerun_succeeded: Run a job once more that has SUCCEEDED under this id; for servers, which must be alive afterwards.
        deferrable: Wait in the triggerer, else in the worker.
        timeout_s: Stop the job and fail when it is not over after so long, counted from this try. Unlike Airflow's
            `execution_timeout` it covers the time in the triggerer.
        tolerate_unreachable_s: How long one outage of the Jobs API may last. The job itself is left alone.
        log_limit_chars: How much of the job's log goes to the task log; beyond it only the last lines, and a count.
        ray_conn_id: Airflow connection of type `ray`. Templated.
        map_label: What the task works on, for `map_index_template="{{ task.map_label }}"` of a mapped one. Templated.
    """

    template_fields: Sequence[str] = (
        "submission_id", "arguments", "env_vars", "num_cpus", "num_gpus", "memory_bytes", "custom_resources", "metadata",
        "ray_conn_id", "map_label",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "arguments": "json",
        "env_vars": "json",
        "custom_resources": "json",
        "metadata": "json",
    }
    operator_extra_links: Sequence[BaseOperatorLink] = (RayDashboardLink(),)
    ui_color = "#d6ebff"

    def __init__(
        self,
        *,
        entrypoint: Sequence[str],
        submission_id: str | Sequence[str],
        arguments: Sequence[str] = (),
        arguments_env_var: str = "RAYJOB_ARGUMENTS",
        env_vars: Mapping[str, str] | None = None,
        num_cpus: float = 0,
        num_gpus: float = 0,
        memory_bytes: int = 0,
        custom_resources: Mapping[str, float] | None = None,
        metadata: Mapping[str, str] | None = None,
        wait_for: WaitFor = "completion",
        rerun_succeeded: bool = False,
        deferrable: bool = True,
        poll_interval_s: float = 2.0,
        timeout_s: float | None = None,
        tolerate_unreachable_s: float = 300.0,
        log_limit_chars: int = DEFAULT_LIMIT_CHARS,
        ray_conn_id: str = RayJobHook.default_conn_name,
        map_label: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.map_label = map_label
        self.command = join_entrypoint(entrypoint)
        if wait_for not in ("completion", "submission"):
            raise ValueError(f"wait_for must be 'completion' or 'submission', got {wait_for!r}.")
        if poll_interval_s <= 0 or (timeout_s is not None and timeout_s <= 0):
            raise ValueError(
                f"poll_interval_s and timeout_s must be above 0, got {poll_interval_s!r} and {timeout_s!r}."
            )
        self.entrypoint = list(entrypoint)
        self.submission_id = submission_id
        self.arguments = arguments
        self.arguments_env_var = arguments_env_var
        self.env_vars = env_vars
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.memory_bytes = memory_bytes
        self.custom_resources = custom_resources
        self.metadata = metadata
        self.wait_for = wait_for
        self.rerun_succeeded = rerun_succeeded
        self.deferrable = deferrable
        self.poll_interval_s = poll_interval_s
        self.timeout_s = timeout_s
        self.tolerate_unreachable_s = tolerate_unreachable_s
        self.log_limit_chars = log_limit_chars
        self.ray_conn_id = ray_conn_id
        self.job_page = ""
        self._hook: RayJobHook | None = None
        self._job_id: str | None = None
        self._is_killed = False

    @property
    def hook(self) -> RayJobHook:
        """The cluster's hook, made once per task."""
        if self._hook is None:
            self._hook = RayJobHook(self.ray_conn_id)
        return self._hook

    def execute(self, context: Context) -> dict[str, str]:
        """Make sure that the job runs, then wait for it or hand the waiting to the triggerer."""
        request = self.build_request()
        job_id = self._adopt(request.submission_id)
        submitter = JobSubmitter(
            self.hook,
            rerun_succeeded=self.rerun_succeeded,
            tolerate_unreachable_s=self.tolerate_unreachable_s,
            log=self.log,
        )
        submission = submitter.ensure(request)
        if self._is_killed:
            self.hook.stop(job_id)  # The kill came while the submission was on its way.
        details = submission.details
        self.log.info(
            "Ray job %s: %s, now %s. %s %s",
            job_id,
            submission.origin.value,
            details.status,
            details.message,
            self.job_page,
        )
        if submission.origin is Origin.KEPT or (
            self.wait_for == "submission" and not details.is_terminal and not self._is_killed
        ):
            return {"submission_id": job_id, "status": details.status}

        options = WatchOptions(
            poll_interval_s=self.poll_interval_s,
            tolerate_unreachable_s=self.tolerate_unreachable_s,
            deadline_s=time.time() + self.timeout_s if self.timeout_s else None,
            log_position=details.log_start,
            log_limit_chars=self.log_limit_chars,
        )
        if self.deferrable and not details.is_terminal and not self._is_killed:
            self.defer(
                trigger=RayJobTrigger(job_id, self.ray_conn_id, options.to_json()), method_name="execute_complete"
            )
        return self._finish(asyncio.run(self._watch(job_id, options)))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, str]:
        """Come back from the triggerer with the event that says how the job ended."""
        result = WatchResult.from_json(event)
        self._adopt(result.submission_id)
        return self._finish(result)

    def on_kill(self) -> None:
        """Stop the job of a task that is killed in its worker. While it is deferred, the trigger does this."""
        self._is_killed = True
        if self._job_id is None:
            return
        try:
            self.hook.stop(self._job_id)
            self.log.info("Asked Ray to stop the job %s because the task was killed.", self._job_id)
        except RayJobNotFound:
            self.log.info("The task was killed before its job %s was submitted.", self._job_id)
        except RayJobError as error:
            self.log.error(
                "Ray job %s may still be running; stop it in the Ray dashboard: %s", self._job_id, error.message
            )

    def build_request(self) -> JobRequest:
        """Check the rendered values and put them into the request that will be submitted.

        Raises:
            ValueError: If one is not usable.
        """
        env_vars = check_variables(self.env_vars or {}, reserved=self.arguments_env_var)
        return JobRequest(
            submission_id=resolve_submission_id(self.submission_id),
            entrypoint=self.command,
            env_vars=env_vars | {self.arguments_env_var: encode_arguments(self.arguments)},
            num_cpus=to_number("num_cpus", self.num_cpus),
            num_gpus=to_number("num_gpus", self.num_gpus),
            memory_bytes=int(to_number("memory_bytes", self.memory_bytes)),
            resources={
                name: to_number(f"custom_resources[{name}]", value)
                for name, value in (self.custom_resources or {}).items()
            },
            metadata={str(key): str(value) for key, value in (self.metadata or {}).items()},
        )

    def _adopt(self, submission_id: str) -> str:
        self._job_id = submission_id
        self.job_page = self.hook.endpoint.job_page(submission_id)
        return submission_id

    async def _watch(self, job_id: str, options: WatchOptions) -> WatchResult:
        async with self.hook.open_async() as jobs:
            return await JobWatch(job_id, options, self.log, secrets=jobs.endpoint.secrets).run(jobs)

    def _finish(self, result: WatchResult) -> dict[str, str]:
        """Read the status once more, bring the log home, and return or raise what it says."""
        try:
            details = self.hook.find(result.submission_id)
        except RayJobError as error:
            self.log.warning("The final status cannot be read again, so the watcher's word counts: %s", error.message)
            details = None
        is_confirmed = details is not None and details.is_terminal and result.outcome != TIMED_OUT
        status = details.status if details is not None and is_confirmed else result.outcome
        if not result.is_log_complete and details is not None:
            cursor = JobLogCursor(
                position=result.log_position, limit_chars=self.log_limit_chars, secrets=self.hook.endpoint.secrets
            )
            for line in self._read_log(result.submission_id, cursor):
                self.log.info("%s", line)
        if status == SUCCEEDED:
            self.log.info("Ray job %s has SUCCEEDED.", result.submission_id)
            return {"submission_id": result.submission_id, "status": status}
        raise self._make_error(status, result, details)

    def _read_log(self, job_id: str, cursor: JobLogCursor) -> list[str]:
        """Read the rest of the log; that it cannot be read must not hide how the job ended."""
        try:
            return self.hook.logs(job_id, cursor, is_final=True)
        except RayJobError as error:
            self.log.warning("The job's log cannot be read: %s", error.message)
            return []

    def _make_error(self, status: str, result: WatchResult, details: JobDetails | None) -> RayJobError:
        tail: tuple[str, ...] = ()
        if details is not None:
            cursor = JobLogCursor(position=details.log_start, limit_chars=0, secrets=self.hook.endpoint.secrets)
            self._read_log(result.submission_id, cursor)
            tail = tuple(cursor.tail)
        said = (
            (details.message if details is not None and details.message else result.message)
            .split(", last available logs")[0]
            .strip()
        )
        message = (
            f"Ray job {result.submission_id} ended as {status}: {said or 'Ray gave no reason'}. Expected SUCCEEDED."
            f" {_ADVICE_OF_OUTCOME.get(status, '')} Job page: {self.job_page}"
        )
        return _ERROR_OF_OUTCOME.get(status, RayJobError)(message, result.submission_id, tail)
