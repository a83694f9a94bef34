"""Where the tasks of a stage run: in this process while they are few, else on all CPUs of this machine, or on a cluster.

`TaskRunner` runs one function over many arguments. Starting workers takes longer than preparing a small night's data. With many
tasks it takes the cluster that `RAY_ADDRESS` names, or that this process is connected to; without one it takes worker
processes of this machine, because a Ray of its own would cost one machine more memory than the work, and none where there are
too few CPUs for them to gain anything (docs/decisions/0008-one-machine-needs-no-ray.md). The results do not depend on where
tasks run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from corpus.ray_session import has_cluster, map_on_ray, ray_session
from corpus.worker_pool import WorkerPool, count_cpus

Argument = TypeVar("Argument")
Result = TypeVar("Result")
MAX_TASKS_HERE = 32
_CPUS_OF_ONE_PROCESS = 2  # one thread reads, two encode: it keeps 1.6 busy, and so many workers are no faster
MapParts = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


def map_here(function: Callable[[Argument], Result], arguments: Sequence[Argument]) -> Iterator[Result]:
    """Run the function over the arguments in this process, in order."""
    return map(function, arguments)


class TaskRunner:
    """Runs tasks in this process while there are at most `max_tasks_here` of them, else in workers, which are started then.

    A context manager: what was started serves all later tasks and is ended when it is left.

    Args:
        max_tasks_here: So many tasks are run in this process, as long as there are no workers. If it is not given: 32, and
            without a cluster on two CPUs any number.
        on_ray: On Ray, however few the tasks, and where no cluster is named on one that is started for them.
    """

    def __init__(self, max_tasks_here: int | None = None, *, on_ray: bool = False) -> None:
        self._max_tasks_here = max_tasks_here
        self._on_ray = on_ray
        self._stack = ExitStack()
        self._has_ray = False
        self._pool: WorkerPool | None = None

    def __enter__(self) -> TaskRunner:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(
        self, function: Callable[[Any], Any], arguments: Sequence[Any], *, only_here: bool = False
    ) -> Iterator[Any]:
        """Run the function over the arguments and return the results in the order of the arguments.

        Args:
            function: A module-level function; it may run in another process, on another machine.
            arguments: One task each.
            only_here: Only processes on this machine: the tasks share files of its disk.

        Raises:
            VocError: The first named failure of a task, as it was raised there.
        """
        if not self._has_ray and self._pool is None:
            if self._is_for_here(len(arguments)):
                return map_here(function, arguments)
            self._start_workers()
        if self._pool is not None:
            return self._pool.map(function, arguments)
        return map_on_ray(function, arguments, only_here=only_here)

    def _is_for_here(self, num_tasks: int) -> bool:
        if self._on_ray:
            return False
        if self._max_tasks_here is not None:
            return num_tasks <= self._max_tasks_here
        return num_tasks <= MAX_TASKS_HERE or (count_cpus() <= _CPUS_OF_ONE_PROCESS and not has_cluster())

    def _start_workers(self) -> None:
        if self._on_ray or has_cluster():
            self._stack.enter_context(ray_session())
            self._has_ray = True
        else:
            self._pool = self._stack.enter_context(WorkerPool())


def keep_here(map_parts: MapParts) -> MapParts:
    """Return the same way of running tasks, restricted to this machine: the tasks share files of its disk."""
    if map_parts is map_on_ray or isinstance(map_parts, TaskRunner):
        return partial(map_parts, only_here=True)
    return map_parts
