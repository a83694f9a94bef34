"""The operators against the stand-in, outside of a scheduler: what they submit, return, raise and stop."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, XComArg, task, task_group
from airflow.sdk.exceptions import TaskDeferred

from rayjob_provider.exceptions import (
    RayAuthError,
    RayJobFailed,
    RayJobNotFound,
    RayJobStillRunning,
    RayJobStopped,
    RayJobsUnreachable,
    RayJobTimeout,
)
from rayjob_provider.links.ray_job import RayDashboardLink
from rayjob_provider.operators.ray_job import RayJobOperator
from rayjob_provider.operators.ray_job_stop import RayJobStopOperator
from tests.unit.rayjob_provider.ray_stand_in import Job, RayStandIn

pytestmark = [pytest.mark.usefixtures("connect"), pytest.mark.filterwarnings("ignore")]
HOSTILE = "$(touch /tmp/pwned); '"


def make(**options: Any) -> RayJobOperator:
    defaults = {"task_id": "t", "entrypoint": ["python", "-m", "x"], "submission_id": "job-1", "poll_interval_s": 0.01}
    return RayJobOperator(**(defaults | {"deferrable": False} | options))


def stop(**options: Any) -> dict[str, str]:
    return RayJobStopOperator(task_id="s", submission_id="job-1", poll_interval_s=0.01, **options).execute({})


def test_it_submits_arguments_in_the_environment_and_returns_id_and_status(ray: RayStandIn) -> None:
    operator = make(
        arguments=[HOSTILE, "--x"], arguments_env_var="ARGS", env_vars={"A": "1"}, num_gpus="1", metadata={"k": 2}
    )
    assert operator.execute({}) == {"submission_id": "job-1", "status": "SUCCEEDED"}
    assert ray.bodies == [
        {
            "submission_id": "job-1",
            "entrypoint": "python -m x",
            "runtime_env": {"env_vars": {"A": "1", "ARGS": json.dumps([HOSTILE, "--x"])}},
            "metadata": {"k": "2"},
            "entrypoint_num_gpus": 1.0,
        }
    ]


def test_the_jobs_log_reaches_the_task_log(capsys: pytest.CaptureFixture[str]) -> None:
    make().execute({})
    assert "hello from the job" in capsys.readouterr().out


def test_it_defers_with_a_trigger_that_carries_no_token(ray: RayStandIn) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        make(deferrable=True, timeout_s=60).execute({})
    assert deferred.value.method_name == "execute_complete"
    assert deferred.value.timeout is None  # Airflow's own would end the trigger and leave the job running.
    assert "the-cluster-token" not in json.dumps(deferred.value.trigger.serialize())
    assert ray.jobs["job-1"].statuses != ["STOPPED"]


def event(outcome: str, **more: Any) -> dict[str, Any]:
    return {
        "submission_id": "job-1",
        "outcome": outcome,
        "message": "m",
        "log_position": 0,
        "is_log_complete": True,
    } | more


def test_after_the_event_the_final_status_is_read_again(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["SUCCEEDED"])
    assert make().execute_complete({}, event("SUCCEEDED"))["status"] == "SUCCEEDED"
    ray.jobs["job-1"] = Job(["FAILED"])
    with pytest.raises(RayJobFailed):
        make().execute_complete({}, event("SUCCEEDED"))


def test_the_event_counts_when_the_status_cannot_be_read_again(connect: Any) -> None:
    connect(port=1)
    assert make().execute_complete({}, event("SUCCEEDED"))["status"] == "SUCCEEDED"


def test_log_lines_that_the_trigger_missed_are_printed(ray: RayStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    ray.jobs["job-1"] = Job(["SUCCEEDED"], log="seen\nmissed\n")
    make().execute_complete({}, event("SUCCEEDED", log_position=5, is_log_complete=False))
    printed = capsys.readouterr().out
    assert "missed" in printed
    assert "seen" not in printed


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        ("FAILED", RayJobFailed), ("STOPPED", RayJobStopped), ("TIMED_OUT", RayJobTimeout),
        ("NOT_FOUND", RayJobNotFound), ("UNREACHABLE", RayJobsUnreachable), ("REFUSED", RayAuthError),
    ],
)  # fmt: skip
def test_every_bad_end_has_a_name(outcome: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="job-1 ended as " + outcome):
        make().execute_complete({}, event(outcome))


def test_a_failure_carries_rays_reason_and_the_last_log_lines_of_this_run(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["FAILED"], log="of the run before\n")
    ray.next_job = lambda: Job(
        ["RUNNING", "FAILED"],
        log="of the run before\nboom\n",
        message="failed with exit code 3, last available logs (...):\nboom",
        exit_code=3,
    )
    with pytest.raises(RayJobFailed) as caught:
        make().execute({})
    assert caught.value.log_tail == ("boom",)
    assert "exit code 3. Expected" in caught.value.message


def test_killing_the_task_stops_the_job(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"])
    operator = make(deferrable=True)
    with pytest.raises(TaskDeferred):
        operator.execute({})
    operator.on_kill()
    assert ray.jobs["job-1"].statuses == ["STOPPED"]


def test_a_kill_before_anything_was_submitted_is_quiet(ray: RayStandIn) -> None:
    make().on_kill()
    assert ray.requests == []


def test_a_kill_during_the_submission_stops_what_was_submitted(ray: RayStandIn) -> None:
    operator = make(deferrable=True)
    original = ray.submit

    def kill_meanwhile(body: dict[str, Any]) -> tuple[int, Any]:
        operator._is_killed = True
        return original(body)

    ray.submit = kill_meanwhile  # type: ignore[method-assign]
    ray.next_job = lambda: Job(["RUNNING"])
    with pytest.raises(RayJobStopped):
        operator.execute({})


def test_waiting_for_submission_returns_while_the_job_lives(ray: RayStandIn) -> None:
    ray.next_job = lambda: Job(["PENDING"])
    assert make(wait_for="submission").execute({}) == {"submission_id": "job-1", "status": "PENDING"}
    ray.jobs["job-1"] = Job(["STOPPED"])
    ray.next_job = lambda: Job(["RUNNING"])
    assert make(wait_for="submission").execute({})["status"] == "RUNNING"


def test_a_server_that_dies_at_once_fails_its_setup_task(ray: RayStandIn) -> None:
    ray.next_job = lambda: Job(["FAILED"], log="no such model\n")
    with pytest.raises(RayJobFailed, match="no such model"):
        make(wait_for="submission").execute({})


def test_a_timeout_stops_the_job(ray: RayStandIn) -> None:
    ray.next_job = lambda: Job(["RUNNING"])
    with pytest.raises(RayJobTimeout, match="timeout_s"):
        make(timeout_s=0.05).execute({})
    assert ray.jobs["job-1"].statuses == ["STOPPED"]


@pytest.mark.parametrize(
    "options", [{"wait_for": "x"}, {"poll_interval_s": 0}, {"timeout_s": -1}, {"entrypoint": "python"}]
)
def test_wrong_options_are_refused_when_the_dag_is_parsed(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make(**options)


def test_the_link_leads_to_the_job() -> None:
    operator = make()
    link = RayDashboardLink()
    assert link.get_link(operator, ti_key=None) == ""  # type: ignore[arg-type]
    operator.execute({})
    assert link.get_link(operator, ti_key=None).endswith("/#/jobs/job-1")  # type: ignore[arg-type]


def test_stop_stops_a_live_job_and_prints_its_last_lines(ray: RayStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"], log="bye\n", body={"submission_id": "job-1"})
    assert stop() == {"submission_id": "job-1", "status": "STOPPED"}
    assert "bye" in capsys.readouterr().out


def test_stop_is_content_with_a_job_that_is_over_or_unknown(ray: RayStandIn) -> None:
    assert stop()["status"] == "UNKNOWN"
    ray.jobs["job-1"] = Job(["FAILED"])
    assert stop()["status"] == "FAILED"
    assert ray.count("POST") == 0


def test_stop_tells_a_job_that_goes_on_from_one_that_waits_for_resources(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"], message="unstoppable")
    with pytest.raises(RayJobStillRunning, match="stop_timeout_s"):
        stop(stop_timeout_s=0.05)
    ray.jobs["job-1"] = Job(["PENDING"])
    assert stop(stop_timeout_s=0.05)["status"] == "PENDING"


def test_stop_survives_an_outage(ray: RayStandIn) -> None:
    ray.jobs["job-1"] = Job(["RUNNING"])
    ray.faults = [("*", 503, "busy")] * 3
    assert stop()["status"] == "STOPPED"


def test_it_fits_into_mapped_tasks_and_mapped_task_groups() -> None:
    with DAG("d", schedule=None) as dag:

        @task
        def models() -> list[dict[str, str]]:
            return []

        @task_group
        def evaluate(name: str, uri: str, num_gpus: float) -> None:
            serve_id = ["d", "{{ run_id }}", name]
            serve = RayJobOperator(
                task_id="serve", entrypoint=["x"], submission_id=serve_id, arguments=["--model", uri], num_gpus=num_gpus,
                wait_for="submission", rerun_succeeded=True,
            )  # fmt: skip
            suite = RayJobOperator(task_id="suite", entrypoint=["y"], submission_id=[*serve_id, "voc"])
            serve >> suite >> RayJobStopOperator(task_id="stop", submission_id=serve_id).as_teardown(setups=serve)

        listed = models()
        evaluate.expand_kwargs(listed)
        RayJobOperator.partial(task_id="mapped", entrypoint=["z"], retries=2, retry_delay=timedelta(0)).expand_kwargs(
            listed
        )
    assert isinstance(listed, XComArg)
    assert set(dag.task_ids) == {"models", "evaluate.serve", "evaluate.suite", "evaluate.stop", "mapped"}
