"""Where tasks run: here while they are few or there is no cluster, else on the cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from corpus.ground import tasks as task_runner
from corpus.ground.tasks import TaskRunner, keep_here, map_here
from voc.errors import DataError


def get_pid(_: int) -> int:
    return os.getpid()


def fail(_: int) -> None:
    raise DataError("no", expected="yes", remedy="none")


@pytest.fixture
def asked_of_ray(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a Ray that is not there was asked for."""
    asked: list[str] = []

    @contextmanager
    def start() -> Iterator[None]:
        asked.append("start")
        yield
        asked.append("end")

    def run(function: Callable[[Any], Any], arguments: Sequence[Any], *, only_here: bool) -> Iterator[Any]:
        asked.append("run here" if only_here else "run")
        return map(function, arguments)

    monkeypatch.setattr(task_runner, "ray_session", start)
    monkeypatch.setattr(task_runner, "map_on_ray", run)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return asked


@pytest.mark.parametrize("num_tasks", [1, task_runner.MAX_TASKS_HERE, task_runner.MAX_TASKS_HERE + 1, 500])
def test_without_a_cluster_one_process_does_it_all(num_tasks: int, asked_of_ray: list[str]) -> None:
    with TaskRunner() as runner:
        assert list(runner(get_pid, range(num_tasks))) == [os.getpid()] * num_tasks
        assert list(runner(get_pid, range(num_tasks), only_here=True)) == [os.getpid()] * num_tasks
    assert asked_of_ray == []


def test_a_cluster_is_used_for_more_tasks_than_are_quick_here(
    asked_of_ray: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://there")
    with TaskRunner() as runner:
        list(runner(abs, range(task_runner.MAX_TASKS_HERE)))
        assert asked_of_ray == []
        list(runner(abs, range(task_runner.MAX_TASKS_HERE + 1)))
    assert asked_of_ray == ["start", "run", "end"]


def test_a_named_error_of_a_task_is_raised_as_it_was(asked_of_ray: list[str]) -> None:
    with TaskRunner(max_tasks_here=0) as runner, pytest.raises(DataError, match="Expected: yes"):
        list(runner(fail, [1, 2]))


def test_many_tasks_go_to_the_cluster_that_is_named(asked_of_ray: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://there")
    with TaskRunner(max_tasks_here=2) as runner:
        list(runner(abs, [1, 2]))
        assert asked_of_ray == []
        list(runner(abs, [1, 2, 3]))
        list(keep_here(runner)(abs, [1]))
    assert asked_of_ray == ["start", "run", "run here", "end"]


def test_many_tasks_go_to_the_cluster_that_this_process_is_connected_to(
    asked_of_ray: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with TaskRunner(max_tasks_here=2) as runner:
        list(runner(abs, [1, 2, 3]))
    assert asked_of_ray == ["start", "run", "end"]


def test_ray_can_be_asked_for_however_few_the_tasks(asked_of_ray: list[str]) -> None:
    with TaskRunner(on_ray=True) as runner:
        assert list(runner(abs, [-1])) == [1]
    assert asked_of_ray == ["start", "run", "end"]


def test_one_process_stays_one_process() -> None:
    assert keep_here(map_here) is map_here
