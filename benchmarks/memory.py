"""Peak memory of a command and everything it starts, sampled from `/proc/*/smaps_rollup` by the process that waits for it.

The proportional set size (PSS) splits a page among the processes that map it, so the sum over a tree counts each page
once. Its three parts answer different questions: `anon` is memory that a program asked for, `shmem` is shared memory
(Ray's object store), `file` is page cache of mapped files (Arrow files, libraries), which the kernel takes back at will.

Source: Linux `Documentation/filesystems/proc.rst`, section on `smaps_rollup`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

INTERVAL_S = 0.2
_MAX_SAMPLER_SHARE = 0.1  # of one core: a sample of many large processes costs tens of milliseconds
_ORPHANS_GRACE_S = 20.0
_PARTS = {b"Pss:": "pss", b"Pss_Anon:": "anon", b"Pss_File:": "file", b"Pss_Shmem:": "shmem"}
_KIB = 1024


@dataclass
class MemoryPeak:
    """What the samples of one run of a command saw.

    Attributes:
        pss_bytes: Highest sum of PSS.
        anon_bytes: Highest sum of its anonymous part.
        anon_shmem_bytes: Highest sum of anonymous and shared memory: everything that is not page cache.
        file_bytes: Highest sum of mapped page cache.
        processes: Most processes seen at once.
        samples: Number of samples.
        sampling_s: Time spent on taking them, in seconds.
    """

    pss_bytes: int = 0
    anon_bytes: int = 0
    anon_shmem_bytes: int = 0
    file_bytes: int = 0
    processes: int = 0
    samples: int = 0
    sampling_s: float = 0.0

    def add(self, totals: Mapping[str, int], num_processes: int, cost_s: float) -> None:
        """Count one sample."""
        self.pss_bytes = max(self.pss_bytes, totals["pss"])
        self.anon_bytes = max(self.anon_bytes, totals["anon"])
        self.anon_shmem_bytes = max(self.anon_shmem_bytes, totals["anon"] + totals["shmem"])
        self.file_bytes = max(self.file_bytes, totals["file"])
        self.processes = max(self.processes, num_processes)
        self.samples += 1
        self.sampling_s += cost_s

    def to_json(self) -> dict[str, float]:
        """Return the figures."""
        return {**asdict(self), "sampling_s": round(self.sampling_s, 3)}


@dataclass
class CommandRun:
    """A finished command.

    Attributes:
        returncode: Its exit status.
        wall_s: From its start to its exit, in seconds.
        cpu_s: CPU time of it and all that it started, in seconds: what other load on the machine changes least.
        peak: Its memory.
        orphans: Processes that it left behind and that had to be ended.
    """

    returncode: int
    wall_s: float
    cpu_s: float
    peak: MemoryPeak
    orphans: list[int] = field(default_factory=list)


def run_measured(
    command: Sequence[str], *, env: Mapping[str, str], stdout: Path, stderr: Path, interval_s: float = INTERVAL_S
) -> CommandRun:
    """Run a command to its end and sample the memory of all descendants of this process that it brought with it.

    Processes that were below this one before, and what they start, are neither counted nor ended.
    """
    peak = MemoryPeak()
    earlier = frozenset(list_descendants(os.getpid()))
    cpu_before_s = _read_children_cpu_s()
    with stdout.open("wb") as out, stderr.open("wb") as err:
        started = time.monotonic()
        process = subprocess.Popen(command, env=dict(env), stdout=out, stderr=err)
        while True:
            before = time.monotonic()
            totals, num_processes = sample_tree(os.getpid(), without=earlier)
            cost_s = time.monotonic() - before
            peak.add(totals, num_processes, cost_s)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(interval_s - cost_s, cost_s * (1 / _MAX_SAMPLER_SHARE - 1)))
                break
        wall_s = time.monotonic() - started
    orphans = _end_orphans(os.getpid(), earlier)
    return CommandRun(process.returncode, wall_s, _read_children_cpu_s() - cpu_before_s, peak, orphans)


def sample_tree(root: int, *, without: frozenset[int] = frozenset()) -> tuple[dict[str, int], int]:
    """Return the summed PSS parts of all descendants of a process in bytes, and how many there are; it is not counted."""
    totals = dict.fromkeys(_PARTS.values(), 0)
    pids = list_descendants(root, without=without)
    for pid in pids:
        for name, value in _read_rollup(pid).items():
            totals[name] += value
    return totals, len(pids)


def list_descendants(root: int, *, without: frozenset[int] = frozenset()) -> list[int]:
    """Return the processes below one, in no order, less those of `without` and what is below them."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                children[_read_parent(int(entry.name))].append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = [pid for pid in children.get(waiting.pop(), []) if pid not in without]
        found += below
        waiting += below
    return found


def read_pss_bytes(pid: int) -> int:
    """Return the PSS of one process in bytes; 0 for one that has ended."""
    return _read_rollup(pid).get("pss", 0)


def _read_parent(pid: int) -> int:
    # The name of the command is in brackets and may hold anything, brackets and spaces included.
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def _read_rollup(pid: int) -> dict[str, int]:
    """Return the PSS parts of one process in bytes; nothing for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {_PARTS[words[0]]: int(words[1]) * _KIB for words in fields if words and words[0] in _PARTS}


def _read_children_cpu_s() -> float:
    """Return the CPU time of all descendants that have ended and were waited for, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def _end_orphans(root: int, earlier: frozenset[int]) -> list[int]:
    """Give what a command left behind time to end by itself, then end it; the next run must not share the cores with it."""
    deadline = time.monotonic() + _ORPHANS_GRACE_S
    while _reap_and_list(root, earlier):
        if time.monotonic() > deadline:
            break
        time.sleep(INTERVAL_S)
    orphans = _reap_and_list(root, earlier)
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while _reap_and_list(root, earlier):
        time.sleep(INTERVAL_S)
    return orphans


def _reap_and_list(root: int, earlier: frozenset[int]) -> list[int]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return list_descendants(root, without=earlier)
