"""The report as plain text for a terminal. Needs the standard library only, so anything that has `report.json` can print it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GAP = "  "
MARKED = ("log_likelihood", "generative_strict")


def format_table(report: Mapping[str, Any]) -> str:
    """Return the study's table, slices, decision, held-out losses and wall times as text, at most about 130 columns wide."""
    table = report["table"]
    parts = [
        f"run {report['run']['id']}, seed {report['run']['seed']}: {table['num_comments']} comments, "
        f"{table['num_questions']} questions, {table['confidence']:.0%} intervals",
        format_columns(_study_rows(table)),
    ]
    if any(name in row["below_chance"] for row in table["rows"] for name in MARKED):
        parts.append(
            "! below chance, so no measure of knowledge: answers of the wrong form, or one letter for every question"
        )
    history = report.get("history")
    if history and (history["rows"] or history["not_comparable"]):
        parts.append(
            f"other runs of this store: {len(history['rows'])} comparable rows and {len(history['not_comparable'])} that are not "
            "(report.parquet, report.json)"
        )
    if report["slices"]:
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


def _study_rows(table: Mapping[str, Any]) -> list[list[str]]:
    head = [
        "model",
        "VOC P",
        "VOC R",
        f"VOC F1 ({table['voc_average']})",
        "log-likelihood",
        "generative",
        "schema leak",
    ]
    rows = [head]
    for row in table["rows"]:
        marks = {name: " !" if name in row["below_chance"] else "" for name in MARKED}
        rows.append(
            [
                row["title"],
                format_figure(row["voc_precision"]["value"]),
                format_figure(row["voc_recall"]["value"]),
                format_interval(row["voc_f1"]),
                format_interval(row["log_likelihood"]) + marks["log_likelihood"],
                format_interval(row["generative_strict"]) + marks["generative_strict"],
                format_figure(row["schema_leak"]["value"] if row["schema_leak"] else None),
            ]
        )
    floor = [format_figure(table["lookup_floor"][name]) for name in ("precision", "recall", "f1")]
    chance = format_figure(table["chance"])
    return [*rows, ["(look-up floor)", *floor, "", "", ""], ["(chance)", "", "", "", chance, chance, ""]]


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


def format_decision(decision: Mapping[str, Any]) -> list[str]:
    """Return the verdicts with their reasons as lines."""
    selected = f": {decision['promoted']} may be promoted" if decision["promoted"] else ""
    lines = [f"decision: {decision['verdict']}{selected}"]
    for candidate in decision["candidates"]:
        lines.append(f"  {candidate['title']}: {candidate['verdict']}")
        lines += [f"    - {reason}" for reason in candidate["reasons"]]
    return lines


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
