"""Scoring many VOC predictions with bootstrap intervals, beside a scikit-learn loop that computes the same figures.

    python -m benchmarks.evaluation.score_vs_sklearn                        # 1,000,000 predictions, 1,420 leaves, 2,000 resamples
    python -m benchmarks.evaluation.score_vs_sklearn --rows 20000 --resamples 100 --peer-resamples 2

Both sides begin with the same Python sets of label paths and compute: four averages at four levels, micro over the tree, four
buckets, one row per label; and all of these but the last on every resample. The peer would take hours for all resamples, so
it does `--peer-resamples` of them, in two ways (`score_peer.py`), and its total is *scaled*: time without resamples, and the mean
time of a resample as often as there are resamples. Both draw the same comments, so the figures of these resamples must be equal.
Sides run one after the other on the same cores, each in a process of its own with one thread. The last line is one JSON object.

Targets: below 60 s for ours, at least 20x against the loop.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

from benchmarks.sides import run_side
from voc.models.folder import cache_folder

LIMIT_S, MIN_RATIO = 60.0, 20.0
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--resamples", type=int, default=2_000)
    parser.add_argument("--peer-resamples", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="runs of our side")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = cache_folder() / "benchmarks" / "score-vs-sklearn"
    load = os.getloadavg()[0]
    shared = ["--rows", str(arguments.rows), "--seed", str(arguments.seed)]
    options = [*shared, "--resamples", str(arguments.resamples), "--checked", str(arguments.peer_resamples)]
    runs = [_run("evaluation.score_ours", options, folder / "ours") for _ in range(arguments.repeats)]
    print(f"ours: {', '.join(format(run['wall_s'], '.1f') for run in runs)} s", flush=True)
    peers = {}
    for way in ("loop", "lean"):
        options = [*shared, "--resamples", str(arguments.peer_resamples), "--way", way]
        peers[way] = _run("evaluation.score_peer", options, folder / way)
        print(f"scikit-learn, {way}: {statistics.mean(peers[way]['resample_s']):.2f} s a resample", flush=True)
    summary = summarise(runs, peers, arguments.resamples)
    print(format_summary(summary))
    facts = {"rows": arguments.rows, "resamples": arguments.resamples, "load_average_before": load}
    print(json.dumps({"benchmark": "score_vs_sklearn", **facts, "nice": os.nice(0), **summary}))


def _run(module: str, options: list[str], output: Path) -> dict[str, Any]:
    output.parent.mkdir(parents=True, exist_ok=True)
    figures, _ = run_side(module, options, output, ONE_THREAD)
    return figures


def summarise(runs: list[dict[str, Any]], peers: dict[str, dict[str, Any]], num_resamples: int) -> dict[str, Any]:
    """Return times, scaled times of the peer, ratios, memory, and how far the two sides' figures differ."""
    wall_s = statistics.median(run["wall_s"] for run in runs)
    ways = {}
    for way, peer in peers.items():
        scaled_s = peer["fixed_s"] + statistics.mean(peer["resample_s"]) * num_resamples
        ways[way] = {
            "fixed_s": peer["fixed_s"],
            "resample_s": peer["resample_s"],
            "resamples_measured": len(peer["resample_s"]),
            "scaled_total_s": scaled_s,
            "ratio": scaled_s / wall_s,
            "peak_rss_mib": peer["peak_rss_bytes"] / MIB,
            "largest_difference": find_difference(
                [runs[0]["point"], runs[0]["resampled"]], [peer["point"], peer["resampled"]]
            ),
        }
    return {
        "ours_wall_s": wall_s,
        "ours_wall_s_each": [run["wall_s"] for run in runs],
        "ours_cpu_s": statistics.median(run["cpu_s"] for run in runs),
        "ours_peak_rss_mib": runs[0]["peak_rss_bytes"] / MIB,
        "ours_before_scoring_mib": runs[0]["input_pss_bytes"] / MIB,
        "scikit_learn": ways,
        "is_below_60_s": wall_s < LIMIT_S,
        "is_20x": ways["loop"]["ratio"] >= MIN_RATIO,
    }


def find_difference(ours: Any, theirs: Any) -> float:
    """Return the largest absolute difference of two trees of numbers.

    Raises:
        ValueError: If the trees are not of the same shape.
    """
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return max((find_difference(ours[key], theirs[key]) for key in ours), default=0.0)
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return max((find_difference(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return abs(ours - theirs)
    raise ValueError(f"the sides computed different figures: {ours!r:.80} and {theirs!r:.80}")


def format_summary(summary: dict[str, Any]) -> str:
    lines = [
        f"ours: {summary['ours_wall_s']:.1f} s wall, {summary['ours_cpu_s']:.1f} s CPU, peak "
        f"{summary['ours_peak_rss_mib']:.0f} MiB, before scoring {summary['ours_before_scoring_mib']:.0f} MiB"
    ]
    lines += [
        f"scikit-learn, {way}: {figures['scaled_total_s']:.0f} s, SCALED from {figures['resamples_measured']} resamples "
        f"({figures['ratio']:.0f}x ours), peak {figures['peak_rss_mib']:.0f} MiB, largest difference of a figure "
        f"{figures['largest_difference']:.1e}"
        for way, figures in summary["scikit_learn"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
