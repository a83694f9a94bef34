"""What Ray Train costs: the same training under Ray Train and under torchrun, and where the time before the first step goes.

    make bench-ray
    python -m benchmarks.ray_share --pairs 3 --steps 40

The same random Qwen3 of 9.6 M parameters, the same rows, the same gloo ranks with one thread each, in turns (Ray, torchrun;
torchrun, Ray). Ray gives its workers a nice of 15: beside other work set `RAY_worker_niceness=0`, or the sides are not alike.
`tokens_per_s` is the wall clock's, from the end of the warm-up steps to the last step, taken from the stage's own progress
lines; the only checkpoint is that of the end. The parts of the start are what the stage writes to `startup.json`; `submit` is
from the start of the command to the start of its process.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus.prepare import prepare
from corpus.task_runner import map_here
from tests.tiny_model import make_tiny_model
from tests.tiny_run import create_tiny_run
from voc.run import Run
from voc.text_table import format_columns

ROOT = Path(__file__).resolve().parent.parent
ARM = "mixed"
NUM_WORKERS = 2
WARMUP_STEPS = 10
SIDES = ("ray", "torchrun")
SHAPE: dict[str, Any] = {"hidden_size": 384, "num_layers": 8, "head_dim": 64}
RUN_TIMEOUT_S = 1800
_PROGRESS = re.compile(rf"{ARM}: step (\d+)/\d+, .* (\d+) tokens/s")
_PARAMETERS = re.compile(rf"{ARM}: ([\d.]+) M parameters on (\d+) ranks")

Figures = dict[str, Any]


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


def run_side(side: str, run: Run) -> Figures:
    """Train once.

    Returns:
        `tokens_per_s` after the warm-up, `parts_s` of the start, `first_step_s` from the command to the first step's end.

    Raises:
        RuntimeError: If the stage fails, with the end of what it printed.
    """
    words = ["training", "run", "--store-uri", run.store.uri, "--run-id", run.layout.run_id, "--arm", ARM]
    command = [sys.executable, "-m", *words]
    if side == "torchrun":
        launcher = [
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={run.config.training.num_workers}",
            "-m",
        ]
        command = [sys.executable, "-m", *launcher, *words, "--without-ray"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    submitted_at = time.time()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False, cwd=ROOT
    )
    if done.returncode != 0:
        raise RuntimeError(f"{side} ended with {done.returncode}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
    record = json.loads(run.store.read_bytes(run.layout.startup(ARM)))
    parts = {"submit": round(record["started_at"] - submitted_at, 3), **record["parts_s"]}
    total = parts.pop("total") + parts["submit"]
    parameters = _PARAMETERS.search(done.stdout)
    return {
        "side": side,
        "tokens_per_s": read_rate(done.stdout),
        "parts_s": parts,
        "first_step_s": round(total, 3),
        "million_parameters": float(parameters[1]) if parameters else None,
    }


def read_rate(log: str) -> float:
    """Return the tokens per second of the progress lines after the warm-up.

    A line's rate is that of the steps since the line before, and all lines stand for equally many steps of about as many tokens,
    so the rate of all is the harmonic mean.
    """
    rates = [float(rate) for step, rate in _PROGRESS.findall(log) if int(step) > WARMUP_STEPS]
    if not rates:
        raise RuntimeError(f"no progress line after step {WARMUP_STEPS} in: {log[-2000:]}")
    return round(statistics.harmonic_mean(rates), 1)


def measure(num_pairs: int, num_steps: int, num_workers: int) -> Figures:
    """Run the sides in turns and return every run with the medians."""
    runs: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="nightforge-ray-share-") as name:
        folder = Path(name)
        base = make_tiny_model(folder / "base", **SHAPE)
        for pair in range(num_pairs):
            for side in SIDES if pair % 2 == 0 else reversed(SIDES):
                figures = run_side(side, make_run(folder / f"{pair}-{side}", base, num_steps, num_workers))
                runs.append({"pair": pair, **figures, "load_average": os.getloadavg()[0]})
                print(json.dumps(runs[-1]), flush=True)
    return {"workers": num_workers, "steps": num_steps, "warmup_steps": WARMUP_STEPS, **summarise(runs), "runs": runs}


def summarise(runs: Sequence[Figures]) -> Figures:
    """Return medians per side, and of the ratio Ray / torchrun over the pairs."""
    by_side = {side: [run for run in runs if run["side"] == side] for side in SIDES}
    pairs = zip(*(sorted(by_side[side], key=lambda run: run["pair"]) for side in SIDES), strict=True)
    ratios = [round(ray["tokens_per_s"] / plain["tokens_per_s"], 4) for ray, plain in pairs]
    return {
        "ray_over_torchrun": statistics.median(ratios),
        "ratios": ratios,
        "tokens_per_s": {side: statistics.median(run["tokens_per_s"] for run in by_side[side]) for side in SIDES},
        "first_step_s": {side: statistics.median(run["first_step_s"] for run in by_side[side]) for side in SIDES},
        "parts_s": {
            side: {
                part: statistics.median(run["parts_s"][part] for run in by_side[side])
                for part in by_side[side][0]["parts_s"]
            }
            for side in SIDES
        },
    }


def print_table(figures: Figures) -> None:
    """Print the medians."""
    names = list(dict.fromkeys(name for side in SIDES for name in figures["parts_s"][side]))
    rows = [["", *SIDES], ["tokens/s", *(f"{figures['tokens_per_s'][side]:.1f}" for side in SIDES)]]
    rows += [[f"start: {name}", *(_show(figures["parts_s"][side].get(name)) for side in SIDES)] for name in names]
    rows += [["submit to first step", *(_show(figures["first_step_s"][side]) for side in SIDES)]]
    print(format_columns(rows))


def _show(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of a run, a multiple of 10, above 10")
    parser.add_argument(
        "--workers",
        type=int,
        default=NUM_WORKERS,
        help="ranks of one thread each; one less than cores leaves Ray a core",
    )
    options = parser.parse_args(argv)
    figures = measure(options.pairs, options.steps, options.workers)
    print_table(figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
