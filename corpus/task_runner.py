"""Where the tasks of a stage run: in this process, or on a cluster where there is one and the tasks are many.

Starting work on a cluster takes longer than preparing a small night's data, so few tasks stay here. Without a cluster all of
them do: one process reads with one thread and encodes with two, and a Ray of its own would cost one machine more memory than
the work (docs/decisions/0008-one-machine-needs-no-ray.md). The results do not depend on where tasks run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from corpus.ray_session import has_cluster, map_on_ray, ray_session

Argument = TypeVar("Argument")
Result = TypeVar("Result")
MAX_TASKS_HERE = 32
MapParts = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


def map_here(function: Callable[[Argument], Result], arguments: Sequence[Argument]) -> Iterator[Result]:
    """Run the function over the arguments in this process, in order."""
    return map(function, arguments)


class TaskRunner:
    """Runs tasks in this process while there are at most `max_tasks_here` of them, more of them on the cluster if there is one.

    A context manager: the connection that was made serves all later tasks and is ended when it is left.

    Args:
        max_tasks_here: So many tasks are run in this process, as long as there is no connection.
        on_ray: On Ray, however few the tasks, and where no cluster is named on one that is started for them.
    """

    def __init__(self, max_tasks_here: int = MAX_TASKS_HERE, *, on_ray: bool = False) -> None:
        self._max_tasks_here = max_tasks_here
        self._on_ray = on_ray
        self._stack = ExitStack()
        self._is_connected = False

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
        if not self._is_connected:
            if not self._on_ray and (len(arguments) <= self._max_tasks_here or not has_cluster()):
                return map_here(function, arguments)
            self._stack.enter_context(ray_session())
            self._is_connected = True
        return map_on_ray(function, arguments, only_here=only_here)


def keep_here(map_parts: MapParts) -> MapParts:
    """Return the same way of running tasks, restricted to this machine: the tasks share files of its disk."""
    if map_parts is map_on_ray or isinstance(map_parts, TaskRunner):
        return partial(map_parts, only_here=True)
    return map_parts
