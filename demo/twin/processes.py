"""The twin's processes: every descendant can be found, measured and ended.

Ray and Airflow fork workers of their own, some into new sessions, some with a rewritten command line and environment. So
this process becomes the *subreaper* of all its descendants (Linux: PR_SET_CHILD_SUBREAPER): whoever loses its parent
becomes our child, and the process tree below us is complete. A component also gets SIGTERM when we die without a word.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TERM_WAIT_S = 10.0


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends, so that no daemon leaves its tree.

    Raises:
        OSError: If the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def start_process(
    name: str, command: Sequence[str], environ: Mapping[str, str], log_folder: Path
) -> subprocess.Popen[bytes]:
    """Start one of the twin's own processes with its output in `<log_folder>/<name>.log`."""
    log_folder.mkdir(parents=True, exist_ok=True)
    with (log_folder / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            list(command),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - only calls prctl
        )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def find_descendants() -> list[int]:
    """Return the pids of all living descendants of this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended while we looked
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def end_descendants(*, wait_s: float = _TERM_WAIT_S) -> int:
    """End all descendants: SIGTERM, a wait, SIGKILL. Returns how many needed SIGKILL."""
    signal_all(find_descendants(), signal.SIGTERM)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and find_descendants():
        _reap()
        time.sleep(0.2)
    killed: set[int] = set()
    while left := find_descendants():
        killed.update(left)
        signal_all(left, signal.SIGKILL)
        _reap()
        time.sleep(0.1)
    return len(killed)


def _reap() -> None:
    """Collect adopted children that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may be gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def measure_pss_bytes() -> int:
    """Return the proportional set size of all descendants together."""
    total = 0
    for pid in find_descendants():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += psutil.Process(pid).memory_full_info().pss
    return total


class PeakMemory:
    """Samples the descendants' memory in a thread; `peak_bytes` is the largest sample."""

    def __init__(self, *, interval_s: float = 15.0) -> None:
        self.peak_bytes = 0
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.peak_bytes = max(self.peak_bytes, measure_pss_bytes())
