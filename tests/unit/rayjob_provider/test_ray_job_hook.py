"""The hook against the stand-in: connection, token, and what each answer means."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rayjob_provider.exceptions import (
    RayAuthError,
    RayJobError,
    RayJobExists,
    RayJobNotFound,
    RayJobRejected,
    RayJobsUnreachable,
)
from rayjob_provider.hooks.ray_job import RayJobHook
from rayjob_provider.job import JobRequest
from rayjob_provider.job_log import JobLogCursor
from tests.unit.rayjob_provider.ray_stand_in import TOKEN, Job, RayStandIn

pytestmark = pytest.mark.usefixtures("connect")
REQUEST = JobRequest("job-1", "true")


def test_check_says_which_ray_and_that_the_token_counts() -> None:
    cluster = RayJobHook().check()
    assert (cluster.ray_version, cluster.is_token_enforced) == ("2.60.0", True)


def test_check_tells_an_open_cluster(ray: RayStandIn) -> None:
    ray.is_token_required = False
    assert not RayJobHook().check().is_token_enforced
    assert "OPEN" in RayJobHook().test_connection()[1]


@pytest.mark.parametrize(("password", "seen"), [("wrong", "does not accept"), (None, "without a token")])
def test_check_tells_a_wrong_token_from_none(connect: Any, password: str | None, seen: str) -> None:
    connect(password=password)
    with pytest.raises(RayAuthError, match=seen):
        RayJobHook().check()


def test_check_tells_that_nothing_listens(connect: Any) -> None:
    connect(port=1)
    with pytest.raises(RayJobsUnreachable, match="connection's host and port"):
        RayJobHook().check()
    assert not RayJobHook().test_connection()[0]


def test_check_tells_that_something_else_listens(ray: RayStandIn) -> None:
    ray.faults = [("GET", 200, "<html>hello</html>")]
    with pytest.raises(RayJobsUnreachable, match="not as a Ray Jobs API"):
        RayJobHook().check()


def test_the_token_may_come_from_the_environment(connect: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connect(password=None)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert RayJobHook().check().ray_version == "2.60.0"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert RayJobHook().check().ray_version == "2.60.0"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(RayAuthError, match="cannot be read"):
        RayJobHook().check()


def test_the_token_is_in_no_log_and_no_message(ray: RayStandIn, caplog: pytest.LogCaptureFixture) -> None:
    hook = RayJobHook()
    with caplog.at_level(logging.DEBUG):
        hook.submit(REQUEST)
        ray.faults = [("GET", 503, "down")]
        with pytest.raises(RayJobError) as caught:
            hook.status("job-1")
    assert TOKEN not in caplog.text + str(caught.value) + repr(hook.endpoint)


def test_the_dashboard_may_have_another_address(connect: Any) -> None:
    assert RayJobHook().endpoint.job_page("j").endswith("/#/jobs/j")
    connect(extra={"dashboard_url": "https://ray.example/"})
    assert RayJobHook().endpoint.job_page("j") == "https://ray.example/#/jobs/j"


@pytest.mark.parametrize(
    ("host", "schema", "scheme"), [("h", None, "http"), ("h", "https", "https"), ("https://h", None, "https")]
)
def test_the_scheme_comes_from_the_host_or_the_schema(connect: Any, host: str, schema: str | None, scheme: str) -> None:
    connect(host=host, schema=schema, port=9)
    assert RayJobHook().endpoint.base_url == f"{scheme}://h:9"


def test_a_taken_id_is_told_from_other_server_errors(ray: RayStandIn) -> None:
    RayJobHook().submit(REQUEST)
    with pytest.raises(RayJobExists):
        RayJobHook().submit(REQUEST)
    ray.faults = [("POST", 500, "No available agent to submit job, please try again later.")]
    with pytest.raises(RayJobsUnreachable, match="No available agent"):
        RayJobHook().submit(JobRequest("job-2", "true"))


def test_a_request_of_the_wrong_form_is_rejected(ray: RayStandIn) -> None:
    ray.faults = [("POST", 400, "TypeError: metadata values must be strings")]
    with pytest.raises(RayJobRejected, match="metadata values"):
        RayJobHook().submit(REQUEST)


def test_an_unknown_job_is_none_and_an_ingress_404_is_an_outage(ray: RayStandIn) -> None:
    assert RayJobHook().find("nope") is None
    with pytest.raises(RayJobNotFound):
        RayJobHook().stop("nope")
    ray.faults = [("GET", 404, "default backend - 404")]
    with pytest.raises(RayJobsUnreachable):
        RayJobHook().find("nope")


def test_deleting_twice_is_fine_and_deleting_a_live_job_is_not(ray: RayStandIn) -> None:
    RayJobHook().delete("nope")
    ray.jobs["job-1"] = Job(["RUNNING"])
    with pytest.raises(RayJobsUnreachable, match="non-terminal"):
        RayJobHook().delete("job-1")


def test_logs_are_incremental(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"], log="one\ntwo\nthr")
    cursor = JobLogCursor()
    assert RayJobHook().logs("job-1", cursor) == ["one", "two"]
    ray.jobs["job-1"].log += "ee\n"
    assert RayJobHook().logs("job-1", cursor) == ["three"]
    assert RayJobHook().logs("job-1", cursor, is_final=True) == []


def test_a_large_log_is_bounded_in_what_it_keeps(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"], log="0123456789" * 9 + "\n" + "some line of text\n" * 300_000)
    cursor = JobLogCursor(limit_chars=1_000)
    lines = RayJobHook().logs("job-1", cursor, is_final=True)
    assert len(lines) < 110
    assert cursor.position == len(ray.jobs["job-1"].log)
