"""Our data pipeline against Hugging Face `datasets` + TRL on the same rows, the same tokenizer and the same two cores.

    make bench-data
    python -m benchmarks.data.vs_datasets --sizes 15000 150000 --repeats 3

Read, validate, render, tokenise, pack, write, from JSONL to packed rows. `ours` runs as it does by default without a cluster:
in one process; `ours_on_ray` starts a local Ray at every size. The sides take turns (peer, ours, peer, ours), each in a
process of its own with empty caches, and this process samples the memory of everything they start. `wall_s` is from
the start of the process to its end, imports and Ray's start included; `own_wall_s` is what a side itself calls its time;
`cpu_s` is the CPU time of all its processes, for a machine that has other things to do.
Prints a table; the last line is one JSON object with all figures.

Writes rows, base model and the peer's environment under `$NIGHTFORGE_CACHE` (default ~/.cache/nightforge) and what a
run writes under `--scratch`, where it is removed again: at 1.5 million rows the peer's caches are some 27 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.sides import CORES, ROOT, Figures, make_input, make_peer_folder, make_rows, run_side
from demo.twin.processes import adopt_orphans

RANKS = Path("dashscope") / "resources" / "qwen.tiktoken"
SEQ_LEN = 2048
IGNORE_INDEX = -100
_OURS = {"ours": [], "ours_on_ray": ["--on-ray"]}
SIDES = ("peer", *_OURS)
_MEMORY_COLUMNS = {"PSS MiB": "pss", "anon": "anon", "anon+shm": "anon_shmem", "file": "file"}
_MIB = 1 << 20


def make_inputs(peer_folder: Path, num_rows: int) -> tuple[Path, Path]:
    """Return the folders of rows and base model, made once in processes of their own."""
    base = make_input("data.base", "", ["--ranks", str(peer_folder / RANKS)])
    return make_rows(num_rows), base


def run_peer(rows_folder: Path, base_folder: Path, output_folder: Path, *, peer_folder: Path) -> Figures:
    """Run `datasets` + TRL once; only its process sees the peer's packages, and its cache is empty."""
    extra = {"PYTHONPATH": f"{ROOT}:{peer_folder}", "HF_DATASETS_CACHE": str(output_folder / "cache")}
    return _run_side("data.peer", rows_folder, base_folder, output_folder, extra, count=count_peer_tokens)


def run_ours(rows_folder: Path, base_folder: Path, output_folder: Path, *, side: str = "ours") -> Figures:
    """Run our pipeline once, in the way of this side."""
    return _run_side("data.ours", rows_folder, base_folder, output_folder, {}, options=_OURS[side])


def count_peer_tokens(output_folder: Path) -> Figures:
    """Count what the peer wrote, here and not in its process: the reading would count as its time and memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    packed = tokens = learned = 0
    for path in sorted((output_folder / "packed").glob("*.arrow")):
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as batches:
            for batch in batches:
                packed += len(batch)
                tokens += pc.sum(pc.list_value_length(batch.column("input_ids"))).as_py()
                learned += pc.sum(pc.not_equal(pc.list_flatten(batch.column("labels")), IGNORE_INDEX)).as_py()
    efficiency = tokens / (packed * SEQ_LEN)
    return {"packed": packed, "tokens": tokens, "assistant_tokens": learned, "efficiency": round(efficiency, 4)}


def _run_side(
    module: str,
    rows: Path,
    base: Path,
    output: Path,
    extra: Mapping[str, str],
    *,
    count: Callable[[Path], Figures] | None = None,
    options: Sequence[str] = (),
) -> Figures:
    """Run one side and return what it printed, with wall time and memory as seen from outside, and what `count` finds."""
    settings = ["--rows", rows, "--base", base, "--output", output, "--seq-len", SEQ_LEN, "--workers", CORES]
    own, run = run_side(module, [*map(str, settings), *options], output, extra)
    figures = {
        **own,
        **(count(output) if count else {}),
        "own_wall_s": own["wall_s"],
        "wall_s": round(run.wall_s, 2),
        "cpu_s": round(run.cpu_s, 2),
        "rows_per_s": round(own["rows"] / run.wall_s, 1),
        "memory": run.peak.to_json(),
        "orphans": len(run.orphans),
        "written_bytes": sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
    }
    shutil.rmtree(output)
    return figures


def measure(
    sizes: Sequence[int], peer_sizes: Sequence[int], sides: Sequence[str], repeats: int, scratch: Path
) -> Figures:
    """Run all sizes and return `{size: {side: [figures of each repeat]}}`."""
    peer_folder = make_peer_folder()
    found: Figures = {}
    for size in sizes:
        rows, base = make_inputs(peer_folder, size)
        runs: dict[str, Callable[[], Figures]] = {}
        if "peer" in sides and size in peer_sizes:
            runs["peer"] = partial(run_peer, rows, base, scratch / "peer", peer_folder=peer_folder)
        for side in _OURS:
            if side in sides:
                runs[side] = partial(run_ours, rows, base, scratch / side, side=side)
        found[str(size)] = {name: [] for name in runs}
        for number in range(1, repeats + 1):
            for name, run in runs.items():
                figures = run()
                found[str(size)][name].append(figures)
                print(f"{size} rows, {name}, run {number} of {repeats}: {figures['wall_s']} s", file=sys.stderr)
    return found


def summarise(found: Figures) -> Figures:
    """Reduce the repeats to medians, ratios and the slope of our memory.

    A ratio is the median over the pairs that ran one after the other, so that a slow minute of the machine hits both.
    """
    sizes: Figures = {}
    for size, sides in found.items():
        sizes[size] = {name: _take_median(runs) for name, runs in sides.items()}
        pairs = {
            name: list(zip(sides["peer"], sides[name], strict=False))
            for name in _OURS
            if sides.get("peer") and sides.get(name)
        }
        if pairs:
            sizes[size]["ratios"] = {name: _compare(runs) for name, runs in pairs.items()}
            sizes[size]["differences"] = _list_differences(*next(iter(pairs.values()))[0])
    return {"sizes": sizes, "memory_slope_mib_per_million_rows": _fit_slopes(sizes)}


def _take_median(runs: Sequence[Figures]) -> Figures:
    """Return the run of median wall time with the range of all; a lower median, so that it is a run that happened."""
    ordered = sorted(runs, key=lambda run: run["wall_s"])
    middle = ordered[(len(ordered) - 1) // 2]
    return {**middle, "n": len(runs), "wall_s_range": [ordered[0]["wall_s"], ordered[-1]["wall_s"]]}


def _compare(pairs: Sequence[tuple[Figures, Figures]]) -> dict[str, float]:
    return {
        "rows_per_s": _ratio(pairs, lambda run: run["rows_per_s"]),
        "rows_per_cpu_s": _ratio(pairs, lambda run: run["rows"] / run["cpu_s"]),
        "own_rows_per_s": _ratio(pairs, lambda run: run["rows"] / run["own_wall_s"]),
        "pss": _ratio(pairs, lambda run: run["memory"]["pss_bytes"]),
        "anon_shmem": _ratio(pairs, lambda run: run["memory"]["anon_shmem_bytes"]),
    }


def _ratio(pairs: Sequence[tuple[Figures, Figures]], pick: Callable[[Figures], float]) -> float:
    return round(statistics.median(pick(ours) / pick(peer) for peer, ours in pairs), 3)


def _list_differences(peer: Figures, ours: Figures) -> Figures:
    """Return the counts in which the sides disagree: they should have done the same work."""
    names = ("rows", "refused", "tokens", "assistant_tokens", "packed", "efficiency", "cut_rows")
    pairs = {name: [peer.get(name), ours.get(name)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _fit_slopes(sizes: Figures) -> Figures:
    """Return by how many MiB the peak grows per million rows (least squares), per side with two sizes or more."""
    slopes: Figures = {}
    for side in SIDES:
        points = [(f[side]["rows"], f[side]["memory"]) for f in sizes.values() if side in f]
        if len(points) > 1:
            millions = [rows / 1e6 for rows, _ in points]
            slopes[side] = {
                part: round(
                    statistics.linear_regression(millions, [m[f"{part}_bytes"] / _MIB for _, m in points]).slope, 1
                )
                for part in ("pss", "anon_shmem")
            }
    return slopes


def format_table(summary: Figures) -> str:
    """Return the figures a reader looks for first."""
    sizes = summary["sizes"]
    cells = [_format_row(size, side, runs[side]) for size, runs in sizes.items() for side in SIDES if side in runs]
    lines = [list(cells[0]), *(list(row.values()) for row in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    for size, runs in sizes.items():
        for side, values in runs.get("ratios", {}).items():
            ratios = ", ".join(f"{name} x{value}" for name, value in values.items())
            table.append(f"{size} rows, {side} / peer: {ratios}; differs: {json.dumps(runs['differences'])}")
    table.append(f"peak memory, MiB per million rows: {json.dumps(summary['memory_slope_mib_per_million_rows'])}")
    return "\n".join(table)


def _format_row(size: str, side: str, run: Figures) -> dict[str, str]:
    """Return the cells of one run by their column."""
    peaks = {name: f"{run['memory'][f'{part}_bytes'] / _MIB:.0f}" for name, part in _MEMORY_COLUMNS.items()}
    refused = run["refused"] if isinstance(run["refused"], int) else sum(run["refused"].values())
    return {
        "rows": size,
        "side": side,
        "n": str(run["n"]),
        "wall s": str(run["wall_s"]),
        "range": "-".join(map(str, run["wall_s_range"])),
        "cpu s": str(run["cpu_s"]),
        "rows/s": str(run["rows_per_s"]),
        **peaks,
        "packed %": f"{100 * run['efficiency']:.2f}",
        "cut": str(run.get("cut_rows", "")),
        "refused": str(refused),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[15_000, 150_000, 1_500_000], help="rows")
    parser.add_argument("--peer-sizes", type=int, nargs="*", help="sizes that the peer runs too; default: all")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["peer", "ours"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--on-ray", action="store_true", help="the side ours_on_ray in place of ours")
    parser.add_argument(
        "--scratch", type=Path, default=Path(".nightforge/benchmarks"), help="folder for what runs write"
    )
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    adopt_orphans()
    peer_sizes = arguments.sizes if arguments.peer_sizes is None else arguments.peer_sizes
    scratch = arguments.scratch.resolve()
    sides = ["ours_on_ray" if arguments.on_ray and side == "ours" else side for side in arguments.sides]
    found = measure(arguments.sizes, peer_sizes, sides, arguments.repeats, scratch)
    summary = {"cores": CORES, "seq_len": SEQ_LEN, **summarise(found)}
    print(format_table(summary))
    print(json.dumps({**summary, "runs": found}))


if __name__ == "__main__":
    main()
