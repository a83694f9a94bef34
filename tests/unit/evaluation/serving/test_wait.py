import pytest

from evaluation.serving.endpoint import read_endpoint
from evaluation.serving.wait import START_MARGIN_S, JobState, UnwatchedServer, wait_for_endpoint
from tests.unit.evaluation.endpoint_stand_in import KEY, StandIn
from tests.unit.evaluation.served_run import announce, make_run
from voc.errors import ServingError


class ScriptedJob:
    """A serve job that goes through states, the last of which stays, while a clock of its own runs."""

    def __init__(self, *states, step_s=1.0, then=None):
        self.states, self.step_s, self.then = list(states), step_s, then
        self.now_s = 0.0
        self.polls = 0

    def clock(self):
        return self.now_s

    def read_state(self):
        self.now_s += self.step_s
        self.polls += 1
        if self.then is not None and self.polls == len(self.states):
            self.then()
        return JobState(self.states[min(self.polls, len(self.states)) - 1], "what Ray says")

    def read_log(self):
        return "\n".join(f"line {i}" for i in range(100))


def wait(run, job):
    return wait_for_endpoint(run, "base", KEY, job, clock=job.clock, poll_s=0)


def test_waiting_ends_when_the_endpoint_answers(tmp_path):
    run = make_run(tmp_path)
    with StandIn().serving() as server:
        job = ScriptedJob("PENDING", "PENDING", "RUNNING", then=lambda: announce(run, server))
        assert wait(run, job) == read_endpoint(run, "base")
    assert job.polls == 3


def test_a_server_that_was_started_by_hand_is_waited_for_too(tmp_path):
    run = make_run(tmp_path)
    with StandIn().serving() as server:
        announce(run, server)
        assert wait_for_endpoint(run, "base", KEY, UnwatchedServer()) == read_endpoint(run, "base")


def test_a_server_that_was_started_by_hand_is_not_waited_for_without_end(tmp_path):
    run = make_run(tmp_path, serving={"start_timeout_s": 10})
    times = iter([0.0, 1.0, 1.0 + 10 + START_MARGIN_S + 1])
    with pytest.raises(ServingError, match=r"base is not healthy 611 s .*no endpoint"):
        wait_for_endpoint(run, "base", KEY, UnwatchedServer(), clock=lambda: next(times), poll_s=0)


def test_a_record_of_a_server_that_is_gone_is_not_enough(tmp_path):
    run = make_run(tmp_path)
    announce(run, StandIn(url="http://127.0.0.1:1/v1"))
    with pytest.raises(ServingError, match="FAILED"):
        wait(run, ScriptedJob("RUNNING", "RUNNING", "FAILED"))


@pytest.mark.parametrize("status", ["FAILED", "STOPPED", "SUCCEEDED"])
def test_an_ended_serve_job_raises_its_state_and_last_lines(tmp_path, status):
    with pytest.raises(ServingError, match=rf"(?s){status}: what Ray says.*line 99") as failed:
        wait(make_run(tmp_path), ScriptedJob("RUNNING", status))
    assert "line 50\n" not in str(failed.value)


def test_no_room_in_ray_is_told_apart_from_a_slow_start(tmp_path):
    run = make_run(tmp_path, serving={"queue_timeout_s": 50, "start_timeout_s": 10, "num_cpus": 3})
    with pytest.raises(ServingError, match=r"no room.*50 s.*Expected: 3 free CPUs"):
        wait(run, ScriptedJob("PENDING", step_s=20))


def test_the_time_in_the_queue_does_not_count_as_start(tmp_path):
    run = make_run(tmp_path, serving={"queue_timeout_s": 10_000, "start_timeout_s": 10})
    states = ["PENDING"] * 9 + ["RUNNING"]
    job = ScriptedJob(*states, step_s=1000)
    with pytest.raises(ServingError, match=r"not healthy .* after its serve job started"):
        wait(run, job)
    assert job.now_s > 10_000 - START_MARGIN_S
