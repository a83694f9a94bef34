"""Two commands that run in turns of seconds: while one computes, every process of the other is stopped.

A machine that others share drifts by a tenth within minutes, so runs one after the other cannot tell two programs apart that
differ by a hundredth. Here both have seen the same machine: a turn is shorter than the drift, and much longer than a switch.
A process that is stopped keeps its memory and its connections and loses what its timers would have done meanwhile, so a turn
must be shorter than what either side waits for a sign of life.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
from scipy.stats import t as student_t

_MAX_SCANS = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """A time in which one side ran.

    Attributes:
        side: Its name.
        start: UNIX time at which its last process was let go.
        end: UNIX time at which its first process was stopped.
    """

    side: str
    start: float
    end: float


class ProcessTree:
    """A command and everything it has started.

    Args:
        pid: The command's process.
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)

    def list_processes(self) -> list[psutil.Process]:
        """Return the processes that are there now, the command first; none if it has ended."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> float:
        """Stop all of them, also those that are started while this goes on.

        Returns:
            UNIX time at which the first was stopped. Looking for processes takes longer than stopping them, and they run on
            meanwhile, so it is done before.

        Raises:
            RuntimeError: If new ones appear faster than they are stopped.
        """
        found = self.list_processes()
        stopped: set[psutil.Process] = set()
        began = time.time()
        for _ in range(_MAX_SCANS):
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped.update(found)
            found = [process for process in self.list_processes() if process not in stopped]
            if not found:
                return began
        raise RuntimeError(f"process {self._root.pid} starts others faster than they can be stopped")

    def let_go(self) -> float:
        """Let all go on and return the UNIX time at which the last did."""
        for process in self.list_processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()
        return time.time()

    def kill(self) -> None:
        """End all of them at once."""
        for process in self.list_processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def measure_cpu_s(self) -> float:
        """Return the CPU time of those that are there, and of those they waited for."""
        total = 0.0
        for process in self.list_processes():
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
        return total


def take_turns(trees: Mapping[str, ProcessTree], turn_s: float, is_over: Callable[[], bool]) -> Iterator[Turn]:
    """Let stopped sides run one after the other until `is_over` after a turn; yields the turns, at their end all are stopped."""
    for side in itertools.cycle(trees):
        start = trees[side].let_go()
        time.sleep(turn_s)
        yield Turn(side, start, trees[side].stop())
        if is_over():
            return


def list_active_s(ends: Sequence[float], turns: Sequence[Turn]) -> list[float]:
    """Return how long a side ran between each two of the times `ends`.

    Args:
        ends: UNIX times, ascending.
        turns: That side's turns.
    """
    return [
        sum(max(0.0, min(after, turn.end) - max(before, turn.start)) for turn in turns)
        for before, after in itertools.pairwise(ends)
    ]


def compare_paired(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float, float]:
    """Return the geometric mean of the paired ratios and its 95 % interval (Student's t on their logarithms).

    Raises:
        ValueError: If there are fewer than two pairs.
    """
    logs = [math.log(above / below) for above, below in zip(numerators, denominators, strict=True)]
    if len(logs) < 2:
        raise ValueError(f"an interval needs two pairs; got {len(logs)}")
    mean = statistics.fmean(logs)
    half = student_t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)
