"""Worker processes of this machine: many tasks on all of its CPUs, where there is no cluster to share them with.

Workers are forked from a fork server, a process that has imported what they need (`corpus.worker_imports`) and does nothing
else. They are not forked from this one: a fork copies locks that threads of Arrow or of the tokenizer hold, and may wait for
them forever. Arguments and results travel between a process and its own workers only, and a few at a time.

Sources: https://docs.python.org/3/library/concurrent.futures.html#processpoolexecutor and
https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import TypeVar

from corpus.base_model import get_loaded_folder
from voc.errors import WorkerError

Argument = TypeVar("Argument")
Result = TypeVar("Result")
_TASKS_AHEAD = 4  # per worker: so many results may wait for a slow one before them
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# A worker has one CPU: more threads would only take turns, each with memory of its own.
_ONE_THREAD = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
_SHARED_IMPORTS = "corpus.worker_imports"
TOKENIZER_VARIABLE = "NIGHTFORGE_WORKERS_TOKENIZER"


class WorkerPool:
    """Runs tasks in worker processes, which are started with the first of them.

    A context manager: the workers end when it is left, and with this process, however that ends.

    Args:
        num_workers: How many; one per usable CPU if it is not given.
    """

    def __init__(self, num_workers: int | None = None) -> None:
        self.num_workers = num_workers or count_cpus()
        self._stack = ExitStack()

    def __enter__(self) -> WorkerPool:
        self._stack.enter_context(_worker_environment())
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_SHARED_IMPORTS])
        self._executor = ProcessPoolExecutor(
            self.num_workers, mp_context=context, initializer=_start_worker, initargs=(dict(os.environ),)
        )
        self._stack.callback(self._executor.shutdown, cancel_futures=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def map(self, function: Callable[[Argument], Result], arguments: Sequence[Argument]) -> Iterator[Result]:
        """Run the function over the arguments and yield the results in the order of the arguments.

        Args:
            function: A module-level function; it runs in other processes.
            arguments: One task each.

        Raises:
            WorkerError: If a worker was killed.
            Exception: The first failure of a task, as it was raised there.
        """
        waiting: deque[Future[Result]] = deque()
        todo = iter(arguments)
        try:
            while True:
                free = _TASKS_AHEAD * self.num_workers - len(waiting)
                waiting.extend(self._executor.submit(function, argument) for argument in islice(todo, free))
                if not waiting:
                    return
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise WorkerError(
                f"one of {self.num_workers} worker processes was ended from outside",
                expected="workers that live as long as this process; mostly the system ran out of memory and chose one",
                remedy="look for 'Out of memory' in the kernel's log (dmesg), and run it again with fewer CPUs "
                "(taskset -c 0,1 ...), in one process (--without-ray), or on a cluster (RAY_ADDRESS)",
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def count_cpus() -> int:
    """Return how many CPUs this process may use, by its affinity and by the quota of its container."""
    usable = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_QUOTA.read_text().split()
    except (OSError, ValueError):  # no cgroups of version 2
        return usable
    return usable if quota == "max" else max(1, min(usable, math.ceil(int(quota) / int(period))))


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Give processes that are started meanwhile this one's tokenizer, and one thread in libraries that would take more."""
    folder = get_loaded_folder()
    wanted = dict.fromkeys(_ONE_THREAD, "1") | ({TOKENIZER_VARIABLE: str(folder)} if folder else {})
    missing = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def _start_worker(environment: Mapping[str, str]) -> None:
    """Take over the parent's environment of now: a fork server has that of the first pool."""
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches the whole group: no traceback of each worker
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker as soon as its parent is gone: it would wait for tasks forever, as it holds both ends of their queue."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
