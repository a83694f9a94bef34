"""Write the run's report: the study's table first, then everything needed to believe it.

    python -m evaluation report --store-uri URI --run-id ID [--print]

Reads: every model's results, decision.json, promotion.json, data/, mixtures, what training left, and timings.
Writes: report/ {index.html, report.json, report.txt, report.parquet, *.png, manifest}.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from evaluation.plots import draw_plots
from evaluation.report_content import build_report
from evaluation.report_html import render_html
from evaluation.report_table import format_table
from voc.config_file import hash_config
from voc.manifest import commit_folder, digest_json, is_finished
from voc.run import Run, add_run_arguments, open_run

REPORT_VERSION = 2
TEXT_NAME = "report.txt"


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `report`."""
    parser = subparsers.add_parser("report", help="write the report: HTML, JSON, Parquet, text, plots")
    add_run_arguments(parser)
    parser.add_argument("--print", action="store_true", dest="is_printed", help="print the report's text too")
    parser.set_defaults(run=run_report)


def run_report(arguments: argparse.Namespace) -> None:
    """Open the run, write the report, and say where it is."""
    run = open_run(arguments.store_uri, arguments.run_id)
    write_report(run)
    if arguments.is_printed:
        print(run.store.read_bytes(f"{run.layout.report}/{TEXT_NAME}").decode(), flush=True)
    print(f"report: {run.store.uri}/{run.layout.report}/index.html", flush=True)


def write_report(run: Run) -> None:
    """Write the report, unless it was written from just these figures.

    Raises:
        ObjectNotFoundError: If a model has no results yet.
    """
    report = build_report(run)
    inputs = {"version": REPORT_VERSION, "config": hash_config(run.config), "content": digest_json(report)}
    if is_finished(run.store, run.layout.report, inputs):
        print("report: written before, from the same figures", flush=True)
        return
    with run.timed("report"), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plots = draw_plots(report)
        for file_name, data in plots.items():
            (folder / file_name).write_bytes(data)
        (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        (folder / TEXT_NAME).write_text(format_table(report), encoding="utf-8")
        (folder / "index.html").write_text(render_html(report, plots), encoding="utf-8")
        write_parquet(folder / "report.parquet", report)
        commit_folder(run.store, run.layout.report, folder, inputs=inputs)


def write_parquet(path: Path, report: dict[str, Any]) -> None:
    """Write the table with one row per model; a figure's interval is in `<figure>_low` and `<figure>_high`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = report["table"]
    shared = {
        "run_id": report["run"]["id"],
        **{name: table[name] for name in ("voc_average", "num_comments", "num_questions")},
    }
    pq.write_table(pa.Table.from_pylist([{**shared, **_flatten(row)} for row in table["rows"]]), path)


def _flatten(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if value is None and name != "verdict":
            flat |= {name: None, f"{name}_low": None, f"{name}_high": None}
        elif isinstance(value, dict):
            flat |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        else:
            flat[name] = value
    return flat
