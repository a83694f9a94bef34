"""The trigger: wait for a job in the triggerer, forward its log, and stop it when somebody kills the task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rayjob_provider.exceptions import RayJobError, RayJobNotFound
from rayjob_provider.hooks.ray_job import RayJobHook
from rayjob_provider.job_watch import JobWatch, WatchOptions

_STOP_ATTEMPTS = 4


class RayJobTrigger(BaseTrigger):
    """Fire once, with a `WatchResult` as payload.

    The job's log lines go to the triggerer's part of the task log. After a restart of the triggerer they are forwarded
    again from the begin of this run, because a trigger cannot save how far it was.

    Args:
        submission_id: The job.
        ray_conn_id: Airflow connection; looked up here, so that no token is stored with the trigger.
        options: `WatchOptions` as a JSON object.
    """

    def __init__(self, submission_id: str, ray_conn_id: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.submission_id = submission_id
        self.ray_conn_id = ray_conn_id
        self.options = options
        self._hook = RayJobHook(ray_conn_id)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to build the same trigger."""
        kwargs = {"submission_id": self.submission_id, "ray_conn_id": self.ray_conn_id, "options": self.options}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait for the job."""
        async with self._hook.open_async() as jobs:
            watch = JobWatch(self.submission_id, WatchOptions(**self.options), self.log, secrets=jobs.endpoint.secrets)
            result = await watch.run(jobs)
        yield TriggerEvent(result.to_json())

    async def on_kill(self) -> None:
        """Stop the job: the task was marked failed or succeeded, cleared, or its run was failed, while it was deferred.

        Airflow calls this for what people do and not for a restart of the triggerer; it allows 30 s.
        """
        for attempt in range(_STOP_ATTEMPTS):
            try:
                async with self._hook.open_async() as jobs:
                    await jobs.stop(self.submission_id)
            except RayJobNotFound:
                return
            except RayJobError as error:
                self.log.warning(
                    "Ray job %s could not be stopped (attempt %d): %s", self.submission_id, attempt + 1, error.message
                )
                await asyncio.sleep(2**attempt)
            else:
                self.log.info("Asked Ray to stop the job %s because the task was killed.", self.submission_id)
                return
        self.log.error(
            "Ray job %s may still be running: stop it in the Ray dashboard or with `ray job stop`.", self.submission_id
        )
