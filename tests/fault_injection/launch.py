"""Starts the training stage with planned faults, and tells afterwards what fired and which steps were run, from outside.

`site/sitecustomize.py` beside this file is what kills; it is put on the stage's PYTHONPATH here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY
from voc.run import Run

SITE = Path(__file__).parent / "site"
MARK = "NIGHTFORGE_TEST_FAULTS"
LAUNCH_TIMEOUT_S = 900  # a crowded machine needs minutes to start Ray, and one launch may start its workers seven times
GONE_TIMEOUT_S = 60


@dataclass(frozen=True)
class Fault:
    """One planned kill; see `site/sitecustomize.py`."""

    name: str
    rank: int
    target: str = "self"
    signal: int = signal.SIGKILL
    step: int | None = None
    path: str | None = None
    delay_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Launch:
    """A stage that has ended; `log` is what it printed."""

    returncode: int
    log: str


class FaultyTraining:
    """One arm's training that is started as often as it takes."""

    def __init__(self, folder: Path, run: Run, arm: str, faults: Sequence[Fault]) -> None:
        self.folder, self.run, self.arm, self.faults = folder, run, arm, list(faults)
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps([fault.to_json() for fault in faults]))

    def launch(self) -> Launch:
        """Run the stage on a local Ray until it ends, however it ends, and until none of its workers is left.

        What else of a local Ray outlives its driver writes nothing; it can take a minute to notice, and is killed here.
        """
        log = self.folder / "stage.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                make_command(self.run, self.arm), env=self._environment(), stdout=output, stderr=subprocess.STDOUT
            )
            (self.folder / "driver.pid").write_text(str(process.pid))
            try:
                process.wait(LAUNCH_TIMEOUT_S)
                self._wait_for_workers()
            finally:
                for pid in self.list_processes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.wait()
        return Launch(process.returncode, log.read_text(errors="replace"))

    def list_processes(self) -> list[int]:
        """Return the processes that this training started: they have its mark in their environment."""
        mark = f"{MARK}={self.folder}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def read_fired(self) -> list[dict[str, Any]]:
        """Return the records of the faults that fired, in their order."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("fired-*.json"))]

    def read_steps(self, rank: int = 0) -> list[tuple[int, int, float]]:
        """Return (step, process, time) of every step that a rank began, without those that the export looks at."""
        lines = (self.folder / f"steps-{rank}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        began = [(row["step"], row["pid"], row["at"]) for row in rows]
        # The export looks at the samples of step 0 once more.
        following = [*began[1:], (-1, -1, 0.0)]
        return [row for row, after in zip(began, following, strict=True) if row[0] > 0 or after[:2] == (1, row[1])]

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(SITE), str(REPOSITORY)])
        changes = {"PYTHONPATH": path, MARK: str(self.folder), "OMP_NUM_THREADS": "1"}
        return {name: value for name, value in {**os.environ, **changes}.items() if name != "RAY_ADDRESS"}

    def _wait_for_workers(self) -> None:
        deadline = time.monotonic() + GONE_TIMEOUT_S
        while left := [pid for pid in self.list_processes() if is_training_worker(pid)]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(left)} workers outlived their driver by {GONE_TIMEOUT_S} s: {left}")
            time.sleep(0.2)


def is_training_worker(pid: int) -> bool:
    """Tell whether a process is a rank of Ray Train, by the name that Ray gives it."""
    with contextlib.suppress(OSError):
        return b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def train_without_ray(run: Run, arm: str, num_workers: int) -> None:
    """Run the stage without Ray in as many processes as the run has workers, as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(num_workers), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [*make_command(run, arm), "--without-ray"],
            env={
                **os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank),
                "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1",
            },
        )
        for rank in range(num_workers)
    ]  # fmt: skip
    try:
        assert [process.wait(LAUNCH_TIMEOUT_S) for process in processes] == [0] * num_workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


def make_command(run: Run, arm: str) -> list[str]:
    """Return the command of the training stage."""
    words = ["run", "--store-uri", run.store.uri, "--run-id", run.layout.run_id, "--arm", arm]
    return [sys.executable, "-m", "training", *words]
