"""Write the run's report: the study's table first, then everything needed to believe it.

    python -m evaluation report --store-uri URI --run-id ID [--print]

Reads: every model's results and shards' manifests, decision.json, promotion.json, data/, mixtures, what training left, timings;
of the store's other runs the results, to show the rows that are comparable.
Writes: report/ {index.html, report.json, report.txt, report.parquet, *.png, manifest}.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from evaluation.report.content import build_report
from evaluation.report.page import render_html
from evaluation.report.plots import draw_plots
from evaluation.report.text_tables import format_table
from voc.config.file import hash_config
from voc.run import Run, open_run
from voc.store.manifest import commit_folder, digest_bytes, is_finished

REPORT_VERSION = 4
TEXT_NAME = "report.txt"


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
    content = encode_text(json.dumps(report, indent=1, ensure_ascii=False))
    inputs = {"version": REPORT_VERSION, "config": hash_config(run.config), "content": digest_bytes(content)}
    if is_finished(run.store, run.layout.report, inputs):
        print("report: written before, from the same figures", flush=True)
        return
    with run.timed("report"), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plots = draw_plots(report)
        for file_name, data in plots.items():
            (folder / file_name).write_bytes(data)
        (folder / "report.json").write_bytes(content)
        (folder / TEXT_NAME).write_bytes(encode_text(format_table(report)))
        (folder / "index.html").write_bytes(encode_text(render_html(report, plots)))
        write_parquet(folder / "report.parquet", report)
        commit_folder(run.store, run.layout.report, folder, inputs=inputs)


def encode_text(text: str) -> bytes:
    """Return a text as UTF-8; half a surrogate pair that a model sent becomes its escape, which JSON reads back as it was."""
    return text.encode("utf-8", "backslashreplace")


def write_parquet(path: Path, report: dict[str, Any]) -> None:
    """Write the table with one row per model of this run, then the comparable rows of other runs.

    A figure's interval is in `<figure>_low` and `<figure>_high`, its number of items in `<figure>_n`; a figure that was not
    measured, or is not comparable, is null. `run_id` is the newest run with just these figures.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = report["table"]
    rows = [{"run_id": report["run"]["id"], "is_this_run": True, **row} for row in table["rows"]]
    rows += [
        {"run_id": row["run_ids"][0], "is_this_run": False, **{k: v for k, v in row.items() if k not in _HISTORY_ONLY}}
        for row in report["history"]["rows"]
    ]
    figures = {name for row in rows for name, value in row.items() if isinstance(value, dict)}
    flat = [{"voc_average": table["voc_average"], **_flatten(row, figures)} for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in flat]), path)


_HISTORY_ONLY = frozenset({"run_ids", "started_at", "reasons"})


def _flatten(row: dict[str, Any], figures: set[str]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name in figures:
            ends = value or {}
            flat |= {name: ends.get("value"), **{f"{name}_{end}": ends.get(end) for end in ("low", "high", "n")}}
        else:
            flat[name] = value
    return flat
