"""Where the time between starting a training and its first step goes: marks set along the way, written to `startup.json`.

Every part ends with a mark and lasts from the mark before, so the parts sum to the whole. The clock is the system's, because
the parts lie in different processes; on several machines a part that crosses from one to the other is as exact as their clocks.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from training.engine.process_group import Ranks
from training.job import TrainingJob
from voc.errors import ObjectNotFoundError

ENTER_WORKER = "start_workers"
_START = "process_start"


class StartupClock:
    """The marks of one start.

    Args:
        marks: Those that were set in another process before: name to UNIX time, in the order of time. Without any, this
            process's own start is the first.
    """

    def __init__(self, marks: Mapping[str, float] | None = None) -> None:
        self._marks = dict(marks) if marks else {_START: time.time() - _read_process_age_s()}

    @property
    def marks(self) -> dict[str, float]:
        """Name to UNIX time, for a process that goes on with this clock."""
        return dict(self._marks)

    def mark(self, part: str) -> None:
        """End a part of the start here."""
        self._marks[part] = time.time()

    def finish(self, job: TrainingJob, ranks: Ranks, step: int) -> None:
        """End the last part, the first step (from 0) that this start made, and write the record from the first rank.

        A worker group that Ray Train started again has the driver's marks of its first start; they are left out then, and
        `restarted` is true.
        """
        self.mark("first_step")
        if not ranks.is_first:
            return
        key, store = job.run.layout.startup(job.arm), job.run.store
        try:
            before = json.loads(store.read_bytes(key))
        except (ObjectNotFoundError, ValueError):
            before = {}
        restarted = before.get("started_at") == self._marks[_START]
        document = {
            "started_at": self._marks[_START],
            "restarted": restarted,
            "first_step": step + 1,
            "world_size": ranks.world_size,
            "parts_s": _list_parts(self._marks, ENTER_WORKER if restarted else _START),
        }
        store.write_bytes(key, json.dumps(document, indent=1).encode())


def _list_parts(marks: Mapping[str, float], start: str) -> dict[str, float]:
    """Return the seconds of every part after the mark `start`, and their sum as `total`."""
    names = list(marks)
    names = names[names.index(start) :]
    parts: dict[str, Any] = {name: round(marks[name] - marks[last], 3) for last, name in pairwise(names)}
    return {**parts, "total": round(marks[names[-1]] - marks[start], 3)}


def _read_process_age_s() -> float:
    """Return how long ago this process was started; 0 where the system does not tell."""
    try:
        # The name of the command is in brackets and may hold anything, brackets and spaces included.
        started_ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")
