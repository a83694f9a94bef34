"""Wait until a model's serve job is healthy, or say why it never will be.

    python -m evaluation wait --store-uri URI --run-id ID --model NAME [--serve-submission-id ID]

Reads: endpoint.json, and the serve job's status from the Ray cluster that this job runs in (RAY_ADDRESS and the token are in
a job's environment). Returns when the endpoint answers as the model and every suite has warmed it up: the shards start
together, and would each compute what their prompts share otherwise. While the serve job waits for room in Ray,
`serving.queue_timeout_s` counts; from its start on, `serving.start_timeout_s`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from evaluation.serving.endpoint import Endpoint, check_endpoint, read_endpoint, read_key
from evaluation.suites.registry import list_suites
from voc.errors import EndpointError, ServingError
from voc.progress import Progress
from voc.run import Run, find_model, open_run

POLL_S = 1.0
LOG_LINES = 30
# The serve job verifies and localises the model before it starts the server.
START_MARGIN_S = 600.0


@dataclass(frozen=True, slots=True)
class JobState:
    """A Ray job as its status says: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""

    status: str
    message: str


class ServeJob(Protocol):
    """The serve job of a model."""

    def read_state(self) -> JobState:
        """Return its state now."""

    def read_log(self) -> str:
        """Return its log so far."""


class RayServeJob:
    """A job of the Ray cluster that this process runs in."""

    def __init__(self, submission_id: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self._id = submission_id
        try:
            self._client = JobSubmissionClient()
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ServingError(
                f"the Jobs API of Ray cannot be reached: {error}",
                expected="a job inside the Ray cluster, or RAY_ADDRESS=http://head:8265 and the token",
            ) from error

    def read_state(self) -> JobState:
        """Return its state now.

        Raises:
            ServingError: If Ray does not know the job or refuses the question.
        """
        try:
            details = self._client.get_job_info(self._id)
        except RuntimeError as error:
            raise ServingError(f"Ray does not tell the state of the serve job {self._id!r}: {error}") from error
        return JobState(str(details.status.value), details.message or "")

    def read_log(self) -> str:
        """Return its log so far; a log that cannot be read is said in its place."""
        try:
            return str(self._client.get_job_logs(self._id))
        except RuntimeError as error:
            return f"(its log cannot be read: {error})"


class UnwatchedServer:
    """A server that was started by hand and not as a Ray job: only its endpoint tells about it."""

    def read_state(self) -> JobState:
        """Return that it runs, as far as anybody knows."""
        return JobState("RUNNING", "started by hand")

    def read_log(self) -> str:
        """Say where its log is."""
        return "(its log is where it was started)"


def run_wait(arguments: argparse.Namespace) -> None:
    """Open the run and wait."""
    run = open_run(arguments.store_uri, arguments.run_id)
    find_model(run, arguments.model)
    key = read_key()
    job = RayServeJob(arguments.serve_submission_id) if arguments.serve_submission_id else UnwatchedServer()
    endpoint = wait_for_endpoint(run, arguments.model, key, job)
    print(f"wait: {arguments.model} is healthy at {endpoint.url}", flush=True)
    for suite in list_suites():
        suite.warm_up(run, arguments.model)


def wait_for_endpoint(
    run: Run,
    model: str,
    key: str,
    job: ServeJob,
    *,
    clock: Callable[[], float] = time.monotonic,
    poll_s: float = POLL_S,
) -> Endpoint:
    """Return the endpoint once it answers.

    Raises:
        ServingError: If the serve job ended, or a timeout passed; with the last lines of its log.
    """
    serving, progress = run.config.serving, Progress(f"wait {model}", None, "polls", interval_s=15)
    pending_since, running_since = clock(), None
    while True:
        problem = "no endpoint.json yet"
        endpoint = read_endpoint(run, model)
        if endpoint is not None:
            try:
                check_endpoint(endpoint.url, endpoint.model, key)
            except EndpointError as error:
                problem = str(error)
            else:
                return endpoint
        state = job.read_state()
        if state.status not in {"PENDING", "RUNNING"}:
            raise _failed(f"the serve job of {model} ended as {state.status}: {state.message}", job)
        now = clock()
        if state.status == "RUNNING":
            running_since = running_since or now
        if running_since is not None and now - running_since > serving.start_timeout_s + START_MARGIN_S:
            raise _failed(
                f"{model} is not healthy {now - running_since:.0f} s after its serve job started: {problem}", job
            )
        if running_since is None and now - pending_since > serving.queue_timeout_s:
            raise ServingError(
                f"Ray had no room for the server of {model} within {serving.queue_timeout_s} s: {state.message}",
                expected=f"{serving.num_cpus:g} free CPUs and {serving.job_gpus:g} free GPUs on one node",
                remedy="add nodes, lower what a server reserves, or raise serving.queue_timeout_s",
            )
        progress.advance(1, job=state.status, last=problem)
        time.sleep(poll_s)


def _failed(problem: str, job: ServeJob) -> ServingError:
    lines = job.read_log().splitlines()[-LOG_LINES:]
    return ServingError(f"{problem}\nThe last lines of its log:\n" + "\n".join(lines) + "\n")
