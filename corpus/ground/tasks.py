"""Where the tasks of a stage run: in this process, or on a cluster where there is one and the tasks are many.

Starting work on a cluster takes longer than preparing a small night's data, so few tasks stay here. Without a cluster all of
them do: one process reads with one thread and encodes with two, and a Ray of its own would cost one machine more memory than
the work (docs/decisions/0008-one-machine-needs-no-ray.md). The results do not depend on where tasks run.

A stage that needs Ray all the same (training) takes the cluster that `RAY_ADDRESS` names, else one that lives as long as the
work. On it every argument is one block of Ray Data, blocks go to wherever there is a CPU, a lost worker's block is done again.

Source: https://docs.ray.io/en/latest/data/data-internals.html
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from voc.errors import TrainingError, VocError

MAX_TASKS_HERE = 32
MapParts = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
_ROOT = Path(__file__).resolve().parents[2]
Argument = TypeVar("Argument")
Result = TypeVar("Result")


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


def map_on_ray(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], *, only_here: bool = False
) -> Iterator[Result]:
    """Run the function over the arguments with Ray Data and yield the results in the order of the arguments.

    Args:
        function: A module-level function; it runs in other processes, on other machines.
        arguments: One task each.
        only_here: Only processes on this machine: the tasks share files of its disk.

    Raises:
        VocError: The first named failure of a task, as it was raised there.
    """
    import ray.data

    if not arguments:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that bars are off, as asked
    shared = ray.put(list(arguments))

    def call(row: dict[str, Any]) -> dict[str, Any]:
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # else it tells every worker that results are objects
        try:
            return {"result": [function(ray.get(shared)[row["item"]])], "error": None}
        except VocError as error:
            return {"result": None, "error": [error]}

    node = {"ray.io/node-id": ray.get_runtime_context().get_node_id()} if only_here else None
    items = ray.data.from_items(list(range(len(arguments))), override_num_blocks=len(arguments))
    rows = items.map(call, num_cpus=1, label_selector=node)
    for row in rows.iter_rows():
        if row["error"] is not None:
            raise row["error"][0]
        yield row["result"][0]


def names_cluster() -> bool:
    """Return whether `RAY_ADDRESS` names a cluster; without one, Ray is started for the work and ends with it."""
    return "RAY_ADDRESS" in os.environ


def has_cluster() -> bool:
    """Return whether there is a cluster to work on: `RAY_ADDRESS` names one, or this process is connected to one."""
    ray = sys.modules.get("ray")
    return names_cluster() or (ray is not None and ray.is_initialized())


@contextmanager
def ray_session() -> Iterator[None]:
    """Connect to the cluster that `RAY_ADDRESS` names, or start one on this machine and end it afterwards.

    Raises:
        TrainingError: If Ray cannot be started here.
    """
    set_ray_variables()

    import ray

    if ray.is_initialized():
        yield
        return
    variables = list_worker_variables()
    if names_cluster():
        ray.init(runtime_env={"env_vars": variables}, logging_level=logging.WARNING)
    else:
        # Processes that are started here inherit them; a runtime environment would cost each worker a start of its own.
        os.environ.update(variables)
        _start_ray()
    try:
        yield
    finally:
        ray.shutdown()


def _start_ray() -> None:
    import ray

    try:
        ray.init(include_dashboard=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray raises no narrower one; its node gives itself up when its agent takes over 15 s
        raise TrainingError(
            f"Ray did not start on this machine: {error}",
            expected="a node that is up within half a minute",
            remedy="look at the end of raylet.err in the newest session folder (/tmp/ray/session_latest/logs); on a busy "
            "machine run the stage again, or start a cluster beforehand and set RAY_ADDRESS",
        ) from error


def set_ray_variables() -> None:
    """Set what Ray reads when it is imported and hands on to its workers."""
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    if not names_cluster() and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        # Else the cluster that is started here leaves a token file in the home folder.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def list_worker_variables() -> dict[str, str]:
    """Return what a worker needs to import this code, wherever the driver was started from."""
    paths = [str(_ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in paths if path)), "PYTHONUNBUFFERED": "1"}
