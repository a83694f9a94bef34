"""One training of `ray_share`: started under Ray Train or under torchrun, and followed by what it writes into its store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from benchmarks.sides import ROOT, Figures
from benchmarks.turns import ProcessTree
from training.metrics import METRICS_NAME, StepFigures, list_steps, read_metrics
from voc.run import Run

ARM = "mixed"
RUN_TIMEOUT_S = 3600
_PARAMETERS = re.compile(rf"{ARM}: ([\d.]+) M parameters on (\d+) ranks")
_SHOWN_LOG_CHARS = 3000


@dataclass(frozen=True, slots=True)
class Side:
    """A training that runs.

    Attributes:
        name: Its name.
        run: Its run; nobody else trains there.
        process: Its command.
        tree: The same with all that it started.
        log: What it prints.
        submitted_at: UNIX time of its start.
    """

    name: str
    run: Run
    process: subprocess.Popen[bytes]
    tree: ProcessTree
    log: Path
    submitted_at: float

    @property
    def tracking(self) -> Path:
        """Folder that grows with every step."""
        folder = self.run.store.local_path(self.run.layout.tracking(ARM))
        if folder is None:
            raise RuntimeError(f"the steps are followed in a folder; the store is {self.run.store.uri}")
        return folder

    def read_steps(self) -> list[StepFigures]:
        """Return the steps so far.

        Raises:
            RuntimeError: If the training failed, with the end of what it printed.
        """
        if self.process.poll():
            log = self.log.read_text(encoding="utf-8", errors="replace")[-_SHOWN_LOG_CHARS:]
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {log}")
        path = self.tracking / METRICS_NAME
        return list_steps(read_metrics(path)) if path.exists() else []

    def read_step_ends(self) -> dict[int, float]:
        """Return the UNIX time of each step's end."""
        ends: dict[int, float] = {}
        for path in sorted(self.tracking.glob("events.out.tfevents.*")):
            for event in EventFileLoader(str(path)).Load():
                if event.summary.value and event.step:
                    ends.setdefault(event.step, event.wall_time)
        return ends

    def describe_start(self) -> Figures:
        """Return the parts of the time from the command to the first step's end, and the model's size."""
        record = json.loads(self.run.store.read_bytes(self.run.layout.startup(ARM)))
        parts = {"submit": round(record["started_at"] - self.submitted_at, 3), **record["parts_s"]}
        total = parts.pop("total") + parts["submit"]
        parameters = _PARAMETERS.search(self.log.read_text(encoding="utf-8", errors="replace"))
        return {
            "parts_s": parts,
            "first_step_s": round(total, 3),
            "million_parameters": float(parameters[1]) if parameters else None,
        }


@contextmanager
def start_side(name: str, run: Run, log: Path) -> Iterator[Side]:
    """Start a training; at the end of the block none of its processes is left."""
    words = ["training", "run", "--store-uri", run.store.uri, "--run-id", run.layout.run_id, "--arm", ARM]
    command = [sys.executable, "-m", *words]
    if name == "torchrun":
        ranks = f"--nproc-per-node={run.config.training.num_workers}"
        launcher = ["torch.distributed.run", "--standalone", ranks, "-m"]
        command = [sys.executable, "-m", *launcher, *words, "--without-ray"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    environment.pop("RAY_ADDRESS", None)
    with log.open("wb") as output:
        submitted_at = time.time()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT)
    side = Side(name, run, process, ProcessTree(process.pid), log, submitted_at)
    try:
        yield side
    finally:
        side.tree.kill()
        process.wait()


def wait_for_first_step(side: Side) -> None:
    """Wait until a training has done a step, and stop it.

    Raises:
        RuntimeError: If it failed.
        TimeoutError: If nothing happens.
    """
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while not side.read_steps():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{side.name} did no step within {RUN_TIMEOUT_S} s; see {side.log}")
        time.sleep(0.2)
    side.tree.stop()
