"""The twin's processes: started with a mark in their environment, so that every descendant can be found and ended.

Ray and Airflow fork workers of their own, some into new sessions; the mark is inherited by all of them, a process group is
not. A child also gets SIGTERM when its parent dies without a word (Linux: PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "NIGHTFORGE_TWIN_ID"
_PR_SET_PDEATHSIG = 1
_TERM_WAIT_S = 10.0
_KIB = 1024


def start_process(
    name: str, command: Sequence[str], environ: Mapping[str, str], log_folder: Path, *, detached: bool
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
            preexec_fn=None if detached else _end_with_parent,  # noqa: PLW1509 - only calls prctl
        )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def find_marked(twin_id: str) -> list[int]:
    """Return the pids of all living processes that carry the twin's mark, without this one."""
    wanted = f"{MARK}={twin_id}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended, or belongs to somebody else
    return found


def end_marked(twin_id: str, *, wait_s: float = _TERM_WAIT_S) -> int:
    """End everything that carries the mark: SIGTERM, a wait, SIGKILL. Returns how many needed SIGKILL."""
    signal_all(find_marked(twin_id), signal.SIGTERM)
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and find_marked(twin_id):
        time.sleep(0.2)
    killed = 0
    while left := find_marked(twin_id):
        killed += len(left)
        signal_all(left, signal.SIGKILL)
        time.sleep(0.1)
    return killed


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to processes, some of which may be gone."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def measure_pss_bytes(twin_id: str) -> int:
    """Return the proportional set size of all marked processes together."""
    total = 0
    for pid in find_marked(twin_id):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * _KIB
    return total


class PeakMemory:
    """Samples the twin's memory in a thread; `peak_bytes` is the largest sample."""

    def __init__(self, twin_id: str, *, interval_s: float = 5.0) -> None:
        self.peak_bytes = 0
        self._twin_id = twin_id
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
            self.peak_bytes = max(self.peak_bytes, measure_pss_bytes(self._twin_id))
