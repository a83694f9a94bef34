"""What happens to a job that is already there: the semantics of a retry."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rayjob_provider.exceptions import RayAuthError, RayJobError, RayJobsUnreachable
from rayjob_provider.hooks.ray_job import RayJobHook
from rayjob_provider.job import JobRequest
from rayjob_provider.submission import RESUBMIT_QUIET_S, JobSubmitter, Origin, Submission
from tests.unit.rayjob_provider.ray_stand_in import DUPLICATE, Job, RayStandIn

pytestmark = pytest.mark.usefixtures("connect")
REQUEST = JobRequest("job-1", "true")


def ensure(slept: list[float] | None = None, **options: Any) -> Submission:
    return JobSubmitter(RayJobHook(), sleep=(slept if slept is not None else []).append, **options).ensure(REQUEST)


def test_an_unknown_job_is_submitted(ray: RayStandIn) -> None:
    assert ensure().origin is Origin.SUBMITTED
    assert ray.count("POST") == 1


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_retry_reattaches_to_a_live_job(ray: RayStandIn, status: str) -> None:
    ray.jobs["job-1"] = Job([status])
    assert ensure().origin is Origin.REATTACHED
    assert ray.count("POST") == 0


def test_a_succeeded_job_does_not_run_again(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["SUCCEEDED"])
    assert ensure().origin is Origin.KEPT
    assert ray.count("POST") == ray.count("DELETE") == 0


def test_a_succeeded_server_runs_again_when_asked_to(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["SUCCEEDED"])
    assert ensure(rerun_succeeded=True).origin is Origin.SUBMITTED
    assert ray.count("POST") == 1


@pytest.mark.parametrize("status", ["FAILED", "STOPPED"])
def test_a_failed_or_stopped_job_is_deleted_and_runs_again_under_the_same_id(ray: RayStandIn, status: str) -> None:
    ray.jobs["job-1"] = Job([status], log="old line\n")
    submission = ensure()
    assert submission.origin is Origin.SUBMITTED
    assert ray.count("DELETE") == 1
    assert submission.details.log_start == len("old line\n")


def test_a_job_that_ended_a_moment_ago_is_left_alone_until_ray_has_let_go_of_it(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["FAILED"], end_time_ms=int(time.time() * 1000))
    slept: list[float] = []
    ensure(slept)
    assert RESUBMIT_QUIET_S - 1 < sum(slept) <= RESUBMIT_QUIET_S


def test_a_job_whose_name_is_still_taken_is_submitted_again(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["STOPPED"])
    collision = Job(
        ["FAILED"],
        message="'The name _ray_internal_job_actor_x is already taken'",
        error_type="JOB_SUPERVISOR_ACTOR_START_FAILURE",
    )
    turns = [collision, Job(["RUNNING"])]
    ray.next_job = lambda: turns.pop(0)
    assert ensure().details.status == "RUNNING"
    assert ray.count("POST") == 2


def test_a_job_that_never_starts_is_given_up_by_name(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["STOPPED"])
    ray.next_job = lambda: Job(["FAILED"], message="already taken", error_type="JOB_SUPERVISOR_ACTOR_START_FAILURE")
    with pytest.raises(RayJobError, match="never kept it"):
        ensure()


def test_two_submitters_share_one_job(ray: RayStandIn) -> None:
    """The 500 of a taken id is a race that somebody else won."""
    ray.jobs["job-1"] = Job(["RUNNING"])
    ray.faults = [("GET", 404, "Job job-1 does not exist"), ("POST", 500, DUPLICATE.format("job-1"))]
    assert ensure().origin is Origin.REATTACHED


def test_a_job_that_fails_at_once_is_reported_and_not_submitted_for_ever(ray: RayStandIn) -> None:
    ray.next_job = lambda: Job(["FAILED"], message="exit code 1")
    assert ensure().details.status == "FAILED"
    assert ray.count("POST") == 1


def test_an_accepted_submission_whose_answer_was_lost_is_not_repeated(ray: RayStandIn) -> None:
    original = ray.submit

    def lose_the_answer(body: dict[str, Any]) -> tuple[int, Any]:
        original(body)
        return 502, "bad gateway"

    ray.submit = lose_the_answer  # type: ignore[method-assign]
    assert ensure().details.status in ("PENDING", "RUNNING")
    assert len(ray.bodies) == 1


def test_an_outage_is_waited_out_and_then_named(ray: RayStandIn) -> None:
    ray.faults = [("*", 503, "starting")] * 3
    slept: list[float] = []
    assert ensure(slept).origin is Origin.SUBMITTED
    assert slept == [1.0, 2.0, 4.0]
    ray.faults = [("*", 503, "starting")] * 3
    with pytest.raises(RayJobsUnreachable, match="503"):
        ensure(tolerate_unreachable_s=0)


def test_a_wrong_token_is_named_at_once(connect: Any, ray: RayStandIn) -> None:
    connect(password="wrong")
    with pytest.raises(RayAuthError):
        ensure()
    assert len(ray.requests) == 1
