"""The trigger: it waits, forwards, lives through outages, and stops the job when the task is killed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from rayjob_provider.job_watch import WatchOptions, WatchResult
from rayjob_provider.triggers import ray_job as trigger_module
from rayjob_provider.triggers.ray_job import RayJobTrigger
from tests.unit.rayjob_provider.ray_stand_in import Job, RayStandIn

pytestmark = pytest.mark.usefixtures("connect")


def wait(**options: Any) -> WatchResult:
    async def first_event() -> Any:
        trigger = RayJobTrigger("job-1", "ray_default", WatchOptions(poll_interval_s=0.01, **options).to_json())
        return [event async for event in trigger.run()]

    (event,) = asyncio.run(asyncio.wait_for(first_event(), 20))
    return WatchResult.from_json(event.payload)


def test_it_serializes_to_plain_values_without_a_token() -> None:
    path, kwargs = RayJobTrigger("j", "ray_default", WatchOptions().to_json()).serialize()
    assert path == "rayjob_provider.triggers.ray_job.RayJobTrigger"
    assert set(kwargs) == {"submission_id", "ray_conn_id", "options"}
    assert RayJobTrigger(**kwargs).serialize() == (path, kwargs)


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_it_fires_with_the_status_that_ends_the_job(
    ray: RayStandIn, status: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.jobs["job-1"] = Job(["PENDING", "RUNNING", status], log="one\ntwo\n", message="waiting for resources")
    result = wait()
    assert (result.outcome, result.is_log_complete, result.log_position) == (status, True, 8)
    printed = capsys.readouterr().out
    assert printed.count("two  ") == 1
    assert "is PENDING: waiting for resources (Ray gives up" in printed


def test_it_forwards_only_this_runs_log(ray: RayStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    ray.jobs["job-1"] = Job(["SUCCEEDED"], log="old line\nnew line\n")
    wait(log_position=len("old line\n"))
    printed = capsys.readouterr().out
    assert "new line" in printed
    assert "old line" not in printed


def test_it_survives_server_errors(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING", "SUCCEEDED"])
    ray.faults = [("GET", 503, "x"), ("GET", 500, "x"), ("GET", 404, "default backend"), ("GET", 502, "x")]
    assert wait(tolerate_unreachable_s=10).outcome == "SUCCEEDED"


def test_it_survives_a_head_that_is_away(connect: Any, ray: RayStandIn) -> None:
    connect(port=1)
    started = time.monotonic()
    result = wait(tolerate_unreachable_s=0.2)
    assert result.outcome == "UNREACHABLE"
    assert 0.2 <= time.monotonic() - started < 5


def test_a_log_that_cannot_be_read_does_not_end_the_wait(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING", "RUNNING", "SUCCEEDED"], log="x\n")
    original = ray.act
    ray.act = lambda method, job, action: (500, "agent is dead") if action == "logs" else original(method, job, action)  # type: ignore[method-assign]
    result = wait()
    assert (result.outcome, result.is_log_complete) == ("SUCCEEDED", False)


def test_a_job_that_the_head_forgot_is_named(ray: RayStandIn) -> None:
    assert wait().outcome == "NOT_FOUND"
    assert ray.count("GET") == 2


def test_a_refused_token_is_named_at_once(connect: Any) -> None:
    connect(password="wrong")
    assert wait().outcome == "REFUSED"


def test_the_deadline_stops_the_job(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"])
    assert wait(deadline_s=time.time() + 0.1).outcome == "TIMED_OUT"
    assert ray.jobs["job-1"].statuses == ["STOPPED"]


def test_beyond_the_limit_the_log_is_read_only_once_more(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"] * 10 + ["SUCCEEDED"], log="x" * 99 + "\n")
    wait(log_limit_chars=10)
    assert ray.count("GET", "/logs") == 2


def test_on_kill_stops_the_job_and_tries_again(ray: RayStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(trigger_module.asyncio, "sleep", pause)
    ray.jobs["job-1"] = Job(["RUNNING"])
    ray.faults = [("POST", 503, "busy")] * 2
    asyncio.run(RayJobTrigger("job-1", "ray_default", {}).on_kill())
    assert ray.jobs["job-1"].statuses == ["STOPPED"]
    assert pauses == [1, 2]


def test_on_kill_of_an_unknown_job_is_quiet() -> None:
    asyncio.run(RayJobTrigger("nope", "ray_default", {}).on_kill())


def test_polling_leaves_the_loop_free(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"] * 20 + ["SUCCEEDED"])

    async def longest_stall() -> float:
        async def run() -> None:
            trigger = RayJobTrigger("job-1", "ray_default", WatchOptions(poll_interval_s=0.01).to_json())
            async for _ in trigger.run():
                pass

        task, stall = asyncio.create_task(run()), 0.0
        while not task.done():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            stall = max(stall, time.monotonic() - before)
        return stall

    assert asyncio.run(longest_stall()) < 0.2
