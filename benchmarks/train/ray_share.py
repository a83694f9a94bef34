"""What Ray Train costs: the same training under Ray Train and under torchrun, and where the time before the first step goes.

    make bench-ray
    python -m benchmarks.train.ray_share --pairs 3 --steps 40 --workers 1

The same random Qwen3 of 9.6 M parameters, the same rows, the same gloo ranks with one thread each, all processes with the same
nice (Ray's default for workers is 15). Each side starts alone: the other is not yet there, or stopped. After the first step they
run in turns of seconds (`benchmarks.turns`), because one side alone, run again minutes later, differs by more than what is
looked for. A step's time is its wall clock's within its own side's turns, from the times in TensorBoard's events. Steps with the
same number do the same work, which their losses prove. The ratio is the geometric mean over pairs of steps that both sides did
in turns after the warm-up; `cores` is the CPU time of all of a side's processes per second of its turns. The only checkpoint is
that of the end. The parts of the start are what the stage writes to `startup.json`; `submit` is from the start of the command
to the start of its process.
Prints a table; the last line is one JSON object with all figures. Writes below a temporary folder, which is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from benchmarks.sides import ROOT, Figures
from benchmarks.turns import ProcessTree, Turn, compare_paired, list_active_s, take_turns
from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from tests.tiny_model import make_tiny_model
from tests.tiny_run import create_tiny_run
from training.metrics import METRICS_NAME, StepFigures, count_steps, list_steps, read_metrics
from voc.run import Run
from voc.text_table import format_columns

NUM_WORKERS = 2
WARMUP_STEPS = 10
# Ray's health checks give up after 5 times 10 s, torchrun's keep-alive after 3 times 5 s.
TURN_S = 4.0
SIDES = ("ray", "torchrun")  # torchrun starts in less time, and the first has to wait for the second
SHAPE: dict[str, Any] = {"hidden_size": 384, "num_layers": 8, "head_dim": 64}
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


def make_run(root: Path, base: Path, num_steps: int, num_workers: int) -> Run:
    """Prepare a run whose steps are long enough to be work and not overhead."""
    training = {
        "num_workers": num_workers,
        "max_steps": num_steps,
        "global_batch_size": 32,
        "log_every_steps": WARMUP_STEPS,
        "checkpoint": {"every_steps": num_steps},
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 5},
    }
    run = create_tiny_run(root, base, training=training)
    prepare(run, map_here)
    return run


def run_pair(runs: Mapping[str, Run], logs: Path, turn_s: float) -> Figures:
    """Start both sides, let them train in turns until one is done, and then both to their end."""
    with start_side(SIDES[0], runs[SIDES[0]], logs / f"{SIDES[0]}.log") as first:
        wait_for_first_step(first)
        with start_side(SIDES[1], runs[SIDES[1]], logs / f"{SIDES[1]}.log") as second:
            wait_for_first_step(second)
            sides = {side.name: side for side in (first, second)}
            trees = {name: side.tree for name, side in sides.items()}
            before_s = {name: tree.measure_cpu_s() for name, tree in trees.items()}

            def is_over() -> bool:
                return any(count_steps(s.read_steps()) >= s.run.config.training.max_steps for s in sides.values())

            turns = list(take_turns(trees, turn_s, is_over))
            spent_s = {name: tree.measure_cpu_s() - before_s[name] for name, tree in trees.items()}
            for side in sides.values():
                side.tree.let_go()
            for side in sides.values():
                side.process.wait(RUN_TIMEOUT_S)
            steps = {name: side.read_steps() for name, side in sides.items()}
            ends = {name: side.read_step_ends() for name, side in sides.items()}
            starts = {name: side.describe_start() for name, side in sides.items()}
    figures = compare_steps(steps, ends, turns)
    own_s = {name: sum(turn.end - turn.start for turn in turns if turn.side == name) for name in SIDES}
    figures["cores"] = {name: round(spent_s[name] / own_s[name], 3) for name in SIDES}
    return {**figures, "starts": starts, "turns": len(turns), "turn_s": turn_s}


def compare_steps(
    steps: Mapping[str, Sequence[StepFigures]], ends: Mapping[str, Mapping[int, float]], turns: Sequence[Turn]
) -> Figures:
    """Return both sides' rates over the same counted steps and the paired ratio.

    Args:
        steps: The lines of all steps, per side.
        ends: UNIX time of the end of each step, per side.
        turns: The turns of both.

    Returns:
        `ray_over_torchrun` with its `interval_95`, `tokens_per_s`, `counted_steps`, the `step_s` of all counted steps and whether
        all steps had the `same_losses`.

    Raises:
        RuntimeError: If fewer than two steps count.
    """
    last_end = turns[-1].end
    common = [step for step in ends[SIDES[0]] if all(ends[side].get(step, last_end) < last_end for side in SIDES)]
    counted = [step for step in sorted(common) if step > WARMUP_STEPS]
    if len(counted) < 2:
        raise RuntimeError(
            f"both sides did {len(counted)} steps in turns after step {WARMUP_STEPS}; set --steps higher"
        )
    step_s = {
        side: list_active_s(
            [ends[side][step] for step in (counted[0] - 1, *counted)], [turn for turn in turns if turn.side == side]
        )
        for side in SIDES
    }
    tokens = {line["step"]: line["tokens"] for line in steps[SIDES[0]]}
    ratio, low, high = compare_paired(step_s["torchrun"], step_s["ray"])
    losses = [[(line["step"], line["tokens"], line["loss"]) for line in steps[side]] for side in SIDES]
    return {
        "ray_over_torchrun": round(ratio, 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "tokens_per_s": {side: round(sum(tokens[s] for s in counted) / sum(step_s[side]), 1) for side in SIDES},
        "counted_steps": len(counted),
        "same_losses": losses[0] == losses[1],
        "step_s": {side: [round(seconds, 3) for seconds in step_s[side]] for side in SIDES},
    }


def measure(num_pairs: int, num_steps: int, num_workers: int, turn_s: float) -> Figures:
    """Run the pairs and return every one with the figures of all."""
    pairs: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="nightforge-ray-share-") as name:
        folder = Path(name)
        base = make_tiny_model(folder / "base", **SHAPE)
        for pair in range(num_pairs):
            place = folder / str(pair)
            runs = {side: make_run(place / side, base, num_steps, num_workers) for side in SIDES}
            pairs.append({**run_pair(runs, place, turn_s), "load_average": os.getloadavg()[0]})
            print(json.dumps(pairs[-1]), flush=True)
    return {
        "workers": num_workers,
        "steps": num_steps,
        "warmup_steps": WARMUP_STEPS,
        **summarise(pairs),
        "pairs": pairs,
    }


def summarise(pairs: Sequence[Figures]) -> Figures:
    """Return the ratio over the steps of all pairs, and medians of the pairs' other figures."""
    step_s = {side: [seconds for pair in pairs for seconds in pair["step_s"][side]] for side in SIDES}
    ratio, low, high = compare_paired(step_s["torchrun"], step_s["ray"])
    starts = {side: [pair["starts"][side] for pair in pairs] for side in SIDES}
    return {
        "ray_over_torchrun": round(ratio, 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "ratios": [pair["ray_over_torchrun"] for pair in pairs],
        "same_losses": all(pair["same_losses"] for pair in pairs),
        **{
            key: {side: statistics.median(pair[key][side] for pair in pairs) for side in SIDES}
            for key in ("tokens_per_s", "cores")
        },
        "first_step_s": {side: statistics.median(start["first_step_s"] for start in starts[side]) for side in SIDES},
        "parts_s": {
            side: {
                part: statistics.median(start["parts_s"][part] for start in starts[side])
                for part in starts[side][0]["parts_s"]
            }
            for side in SIDES
        },
    }


def print_table(figures: Figures) -> None:
    """Print the medians and the ratio."""
    names = list(dict.fromkeys(name for side in SIDES for name in figures["parts_s"][side]))
    rows = [["", *SIDES], ["tokens/s", *(f"{figures['tokens_per_s'][side]:.1f}" for side in SIDES)]]
    rows += [["cores", *(f"{figures['cores'][side]:.2f}" for side in SIDES)]]
    rows += [[f"start: {name}", *(_show(figures["parts_s"][side].get(name)) for side in SIDES)] for name in names]
    rows += [["submit to first step", *(_show(figures["first_step_s"][side]) for side in SIDES)]]
    print(format_columns(rows))
    low, high = figures["interval_95"]
    steps = sum(pair["counted_steps"] for pair in figures["pairs"])
    print(f"Ray over torchrun: {figures['ray_over_torchrun']:.4f} [{low:.4f}, {high:.4f}], n = {steps} pairs of steps")


def _show(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3, help="runs of both sides")
    parser.add_argument("--steps", type=int, default=40, help=f"optimizer steps of a run, above {WARMUP_STEPS + 2}")
    parser.add_argument(
        "--workers",
        type=int,
        default=NUM_WORKERS,
        help="ranks of one thread each; one less than cores leaves Ray a core",
    )
    parser.add_argument("--turn", type=float, default=TURN_S, help="seconds of a turn")
    options = parser.parse_args(argv)
    figures = measure(options.pairs, options.steps, options.workers, options.turn)
    print_table(figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
