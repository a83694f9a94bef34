"""Our training against TRL's `SFTTrainer` (packing) and Hugging Face's `Trainer` (padding) on a CPU: same model, same samples.

    make bench-train
    python -m benchmarks.train.vs_trl --repeats 3 --steps 30 --sides ours trl padded --output DIR

A model of 34 M parameters, samples that are tokenised once, one AdamW, one rate, float32, two threads. The sides take turns, each
in a process of its own. Tokens per second count tokens of samples, not padding, over the steps after `--warmup-steps`, reading
and laying out included. Memory is the peak PSS of the process from start to end, imports included; beside it what came
on top of the level before the model was loaded. No side writes a checkpoint or a model.
Prints tables; the last line is one JSON object. Writes inputs under `$NIGHTFORGE_CACHE` (default ~/.cache/nightforge), logs and
the rows under `--scratch`, and the curves as a picture under `--output`, where it is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.sides import CORES, ROOT, Figures, make_environment, make_input, make_peer_folder, make_rows, run_side
from benchmarks.train.loss_curves import WINDOW_STEPS, compare, draw_curves, format_curves, smooth
from benchmarks.train.side import SIDES
from demo.twin.processes import adopt_orphans
from voc.text_table import format_columns

NUM_ROWS = 15_000
DEFAULT_SIDES = ("ours", "trl", "padded")
_MIB = 1 << 20


def write_rows(base: Path, output: Path, settings: argparse.Namespace) -> None:
    """Write what all sides train, in a process of its own."""
    options = ["--steps", settings.steps, "--rows-per-step", settings.rows_per_step, "--seq-len", settings.seq_len]
    places = ["--rows", make_rows(NUM_ROWS), "--base", base, "--output", output]
    command = [sys.executable, "-m", "benchmarks.train.rows", *map(str, [*places, *options, "--dtype", settings.dtype])]
    subprocess.run(command, check=True, env=make_environment(), stdout=subprocess.DEVNULL)


def run_once(side: str, base: Path, rows: Path, scratch: Path, *, attention: str, warmup_steps: int) -> Figures:
    """Run one side once and return its figures."""
    options = ["--base", str(base), "--rows", str(rows)]
    threads = {name: str(CORES) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if side == "ours":
        own, run = run_side("train.ours", options, scratch / side, threads)
    else:
        extra = {**threads, "PYTHONPATH": f"{ROOT}:{make_peer_folder()}", "HF_DATASETS_CACHE": str(scratch / "cache")}
        options += ["--side", side, "--output", str(scratch / side / "trainer"), "--attention", attention]
        own, run = run_side("train.peer", options, scratch / side, extra)
    peak = run.peak.to_json()
    return {
        **own,
        **measure_steps(own["steps"], warmup_steps),
        "memory": peak,
        "above_level_bytes": peak["pss_bytes"] - own["level_pss_bytes"],
        "process_wall_s": round(run.wall_s, 1),
    }


def measure_steps(steps: Sequence[Figures], warmup_steps: int) -> Figures:
    """Return tokens per second of wall and of CPU time and the share of padding, without the first steps.

    Raises:
        ValueError: If no step is left.
    """
    counted = steps[warmup_steps:]
    if not counted:
        raise ValueError(f"{len(steps)} steps, {warmup_steps} of them for warming up. To do: raise --steps.")
    totals = {name: sum(step[name] for step in counted) for name in ("tokens", "slots", "wall_s", "cpu_s")}
    return {
        "counted_steps": len(counted),
        "tokens_per_s": round(totals["tokens"] / totals["wall_s"], 1),
        "tokens_per_cpu_s": round(totals["tokens"] / totals["cpu_s"], 1),
        "padding_ratio": round(1 - totals["tokens"] / totals["slots"], 4),
    }


def summarise(runs: Mapping[str, Sequence[Figures]]) -> Figures:
    """Reduce the repeats of each side to medians, and compare every side with ours.

    A ratio is the median over the pairs that ran in the same turn, so that a slow minute of the machine hits both.
    """
    sides: Figures = {}
    for name, repeats in runs.items():
        rates = sorted(run["tokens_per_s"] for run in repeats)
        sides[name] = {
            "n": len(repeats),
            "tokens_per_s": round(statistics.median(rates), 1),
            "tokens_per_s_range": [rates[0], rates[-1]],
            "tokens_per_cpu_s": round(statistics.median(run["tokens_per_cpu_s"] for run in repeats), 1),
            "padding_ratio": repeats[0]["padding_ratio"],
            "peak_pss_mib": _median_mib([run["memory"]["pss_bytes"] for run in repeats]),
            "above_level_mib": _median_mib([run["above_level_bytes"] for run in repeats]),
            "peak_rss_mib": _median_mib([run["peak_rss_bytes"] for run in repeats]),
            "last_loss": round(float(smooth(repeats[0]["steps"])[1][-1]), 4),
        }
        if "isolation" in repeats[0]:
            sides[name]["isolation"] = repeats[0]["isolation"]
    return {"sides": sides, "ours_over": _compare_sides(runs)}


def _compare_sides(runs: Mapping[str, Sequence[Figures]]) -> Figures:
    ours = runs.get("ours", ())
    found: Figures = {}
    for name, repeats in runs.items():
        pairs = list(zip(repeats, ours, strict=False))
        if name == "ours" or not pairs:
            continue
        found[name] = {
            "tokens_per_s": _ratio([(o["tokens_per_s"], p["tokens_per_s"]) for p, o in pairs]),
            "tokens_per_cpu_s": _ratio([(o["tokens_per_cpu_s"], p["tokens_per_cpu_s"]) for p, o in pairs]),
            "peak_pss": _ratio([(o["memory"]["pss_bytes"], p["memory"]["pss_bytes"]) for p, o in pairs]),
            "above_level": _ratio([(o["above_level_bytes"], p["above_level_bytes"]) for p, o in pairs]),
            "loss_difference": compare(smooth(repeats[0]["steps"]), smooth(ours[0]["steps"])),
        }
    return found


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return round(statistics.median(ours / peer for ours, peer in pairs), 3)


def _median_mib(values: Sequence[float]) -> int:
    return round(statistics.median(values) / _MIB)


def format_summary(summary: Figures, runs: Mapping[str, Sequence[Figures]]) -> str:
    """Return the figures a reader looks for first, and the curves."""
    names = (
        "n", "tokens_per_s", "tokens_per_s_range", "tokens_per_cpu_s", "padding_ratio", "peak_pss_mib", "above_level_mib",
        "last_loss",
    )  # fmt: skip
    rows = [[side, *(str(figures[name]) for name in names)] for side, figures in summary["sides"].items()]
    lines = [format_columns([["side", *names], *rows]), ""]
    lines += [f"ours over {side}: {json.dumps(ratios)}" for side, ratios in summary["ours_over"].items()]
    curves = {side: smooth(repeats[0]["steps"]) for side, repeats in runs.items()}
    lines += ["", f"loss per learned token, mean of {WINDOW_STEPS} steps, first repeat:", format_curves(curves)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(DEFAULT_SIDES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps of each run")
    parser.add_argument("--warmup-steps", type=int, default=3, help="steps that are not counted")
    parser.add_argument("--rows-per-step", type=int, default=2)
    parser.add_argument("--seq-len", type=int, default=2048, help="tokens of a packed row")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of forward and backward")
    parser.add_argument("--peer-attention", choices=("sdpa", "eager"), default="sdpa")
    parser.add_argument("--scratch", type=Path, default=Path(".nightforge/benchmarks/train"), help="rows and logs")
    parser.add_argument("--output", type=Path, help="folder for the picture of the curves")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    adopt_orphans()
    scratch = arguments.scratch.resolve()
    base = make_input("train.base", "", ["--rows", str(make_rows(NUM_ROWS))])
    write_rows(base, scratch / "rows", arguments)
    runs: dict[str, list[Figures]] = {side: [] for side in arguments.sides}
    for number in range(1, arguments.repeats + 1):
        for side, repeats in runs.items():
            options = {"attention": arguments.peer_attention, "warmup_steps": arguments.warmup_steps}
            repeats.append(run_once(side, base, scratch / "rows", scratch, **options))
            shown = {name: repeats[-1][name] for name in ("tokens_per_s", "process_wall_s")}
            print(f"{side}, run {number} of {arguments.repeats}: {shown}", file=sys.stderr, flush=True)
    summary = summarise(runs)
    print(format_summary(summary, runs))
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        curves = {side: smooth(repeats[0]["steps"]) for side, repeats in runs.items()}
        draw_curves(curves, arguments.output / "train_vs_trl.png")
    settings = {name: str(value) for name, value in vars(arguments).items() if name not in ("output", "scratch")}
    print(json.dumps({"cores": CORES, "settings": settings, **summary, "runs": runs}))


if __name__ == "__main__":
    main()
