"""The report as plain text for a terminal.

Needs the standard library only and imports nothing of ours: this file also runs alone, beside a `report.json`, wherever somebody
carried the two. So it aligns its own columns, which `voc.text_table` does for everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GAP = "  "


def format_table(report: Mapping[str, Any]) -> str:
    """Return the study's table, slices, decision, held-out losses and wall times as text, at most about 130 columns wide."""
    table = report["table"]
    parts = [
        f"run {report['run']['id']}, seed {report['run']['seed']}: {_list_items(table)}, {table['confidence']:.0%} intervals",
        format_columns(_study_rows(table)),
    ]
    shown = {column["figure"] for column in table["columns"]}
    if any(shown.intersection(row["below_chance"]) for row in table["rows"]):
        parts.append(
            "! below chance, so no measure of knowledge: answers of the wrong form, or one letter for every question"
        )
    history = report.get("history")
    if history and (history["rows"] or history["not_comparable"]):
        parts.append(
            f"other runs of this store: {len(history['rows'])} comparable rows and {len(history['not_comparable'])} that are not "
            "(report.parquet, report.json)"
        )
    if report.get("slices"):
        parts.append(format_columns(_slice_rows(report["slices"])))
    if report["decision"]:
        parts.append("\n".join(format_decision(report["decision"])))
    if report["promotion"]:
        parts.append(f"promotion: {report['promotion']['outcome']}, {report['promotion']['reason']}")
    trainings = [arm for arm in report.get("trainings", ()) if arm["held_out"]]
    if trainings:
        parts.append(format_columns(_held_out_rows(trainings)))
    if report["timings"]:
        times = [[timing["stage"], f"{timing['wall_s']:.1f} s"] for timing in report["timings"]]
        parts.append(format_columns([["stage", "wall"], *times]))
    return "\n\n".join(parts) + "\n"


def _list_items(table: Mapping[str, Any]) -> str:
    return ", ".join(dict.fromkeys(f"{column['n']} {column['unit']}" for column in table["columns"]))


def _study_rows(table: Mapping[str, Any]) -> list[list[str]]:
    columns = table["columns"]
    rows = [["model", *(column["short_title"] for column in columns)]]
    rows += [[row["title"], *(_format_cell(row, column) for column in columns)] for row in table["rows"]]
    for yardstick in table["yardsticks"]:
        values = yardstick["values"]
        cells = [format_figure(values[c["figure"]]) if c["figure"] in values else "" for c in columns]
        rows.append([f"({yardstick['title']})", *cells])
    return rows


def _format_cell(row: Mapping[str, Any], column: Mapping[str, Any]) -> str:
    figure = row[column["figure"]]
    mark = " !" if column["figure"] in row["below_chance"] else ""
    if column["has_interval"]:
        return format_interval(figure) + mark
    return format_figure(figure["value"] if figure else None) + mark


def _slice_rows(slices: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["questions", "model", "n", "log-likelihood", "generative"]]
    for entry in sorted(slices, key=lambda entry: str(entry["slice"])):
        figures = [format_interval(entry["log_likelihood"]), format_interval(entry["generative_strict"])]
        rows.append([entry["slice"], entry["title"], str(entry["n"]), *figures])
    return rows


def _held_out_rows(trainings: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = [["model", "ended after", "held-out rows of", "loss before", "loss after"]]
    for arm in trainings:
        for number, entry in enumerate(arm["held_out"]):
            ended = f"{arm['steps']} steps ({str(arm['stopped_by']).replace('_', ' ')})"
            head = ["", ""] if number else [arm["title"], ended]
            rows.append([*head, entry["stratum"], format_figure(entry["before"]), format_figure(entry["after"])])
    return rows


def format_figure(value: float | None) -> str:
    """Return a share with three decimals."""
    return "-" if value is None else f"{value:.3f}"


def format_interval(figure: Mapping[str, float] | None) -> str:
    """Return a figure with its interval."""
    return "-" if figure is None else f"{format_figure(figure['value'])} [{figure['low']:.3f}, {figure['high']:.3f}]"


def format_columns(rows: Sequence[Sequence[str]]) -> str:
    """Align rows in columns, with a rule under the first row."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], GAP.join("-" * width for width in widths), *lines[1:]])


def format_decision(decision: Mapping[str, Any]) -> list[str]:
    """Return the verdicts with their reasons as lines."""
    selected = f": {decision['promoted']} may be promoted" if decision["promoted"] else ""
    lines = [f"decision: {decision['verdict']}{selected}"]
    for candidate in decision["candidates"]:
        lines.append(f"  {candidate['title']}: {candidate['verdict']}")
        lines += [f"    - {reason}" for reason in candidate["reasons"]]
    return lines
