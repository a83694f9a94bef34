"""What a night would draw, as text tables for a terminal: `python -m voc mix` prints them from a `data_report.json`.

A figure that the report does not have is `-`, a part that it does not have is `not computed`; neither is ever shown as 0.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from corpus.report.data_report import (
    NOT_COMPUTED,
    count_unseen_in_training,
    count_used,
    list_coverage,
    list_detailed_draws,
    list_draws,
    list_figures,
    list_reasons,
    sum_counts,
    sum_known,
)
from voc.text_table import MAX_WIDTH, format_columns, make_printable

COUNTED_KEYS = {
    "refused": "refused",
    "dropped": "left out",
    "warnings": "warning",
    "carried_over": "carried over",
    "redacted": "redacted",
}
_MAX_CATEGORIES = 12
_MAX_UNSEEN = 10


def format_mix(report: Mapping[str, Any]) -> str:
    """Return the whole report as text, at most 120 columns wide as long as its figures allow it."""
    parts = [_format_arm(name, arm) for name, arm in (report.get("arms") or {}).items()]
    blocks: list[tuple[str, str, Callable[[Mapping[str, Any]], str]]] = [
        ("sources", "files", _format_sources),
        ("rows that are not used as they came", "files", _format_reasons),
        ("categories and languages", "files", _format_names),
        ("leaf coverage", "coverage", _format_coverage),
        ("duplicates and leakage", "duplicates", lambda report: _format_figures(report["duplicates"])),
        ("contamination with the evaluation sets", "contamination", lambda r: _format_figures(r["contamination"])),
        ("packing", "packing", _format_packing),
    ]
    if not parts:
        parts.append(f"arms: {NOT_COMPUTED}")
    if report.get("validation"):
        parts.append(f"held out for validation: no arm draws these rows\n{_format_held_out(report['validation'])}")
    for title, key, write in blocks:
        is_there = report.get(key) is not None
        parts.append(f"{title}\n{write(report)}" if is_there else f"{title}: {NOT_COMPUTED}")
    return "\n\n".join(parts) + "\n"


def format_count(value: float | None) -> str:
    """Return a number with thousands set apart."""
    return "-" if value is None else f"{value:,}"


def format_share(value: float | None) -> str:
    """Return a share as a percentage."""
    return "-" if value is None else f"{value:.2%}"


def _format_arm(name: str, arm: Mapping[str, Any]) -> str:
    head = ["source", "category", "weight", "rows", "drawn", "tokens", "assistant", "of tokens", "epochs"]
    rows = [[*head, "repeats", "unused", "sampling"]]
    draws = list_draws(arm)
    for draw in list_detailed_draws(arm):
        counts = [draw.num_rows, draw.num_samples, draw.num_tokens, draw.num_assistant_tokens]
        rows.append(
            [
                draw.name,
                draw.category or "(all)",
                "" if draw.is_detail else format_share(draw.weight),
                *map(format_count, counts),
                format_share(draw.shares["tokens"]),
                "-" if draw.epochs is None else f"{draw.epochs:.2f}",
                format_count(draw.max_repeats),
                format_count(draw.unused_rows),
                "" if draw.is_detail else draw.sampling or "-",
            ]
        )
    if len(draws) > 1:
        drawn = sum_known([draw.num_samples for draw in draws])
        tokens = sum_known([draw.num_tokens for draw in draws])
        assistant = sum_known([draw.num_assistant_tokens for draw in draws])
        totals = [format_count(total) for total in (drawn, tokens, assistant)]
        rows.append(["(together)", "", "", "", *totals, "", "", "", "", ""])
    unit = str(arm.get("unit", "?")).replace("_", " ")
    title = (
        f"arm {make_printable(name)}: {format_count(arm.get('num_samples'))} samples, weights in {unit}, "
        f"seed {arm.get('seed', '?')}"
    )
    notes = [_wrap("note", [str(note)]) for note in arm.get("notes") or []]
    return "\n".join([title, format_columns(rows, num_text_columns=2), *notes])


def _format_sources(report: Mapping[str, Any]) -> str:
    files = report["files"]
    if not files:
        return "no files"
    rows = [["file", "read", "refused", "accepted", "left out", "used", "tokens", "assistant", "longest row"]]
    changes = [["file", "labels repaired", "labels carried over", "redacted", "replayed rows", "newest day"]]
    for name, file in files.items():
        counts = [file.get("read"), sum_counts(file, "refused"), file.get("rows"), sum_counts(file, "dropped")]
        counts += [count_used(file), *(file.get(key) for key in ("tokens", "assistant_tokens", "longest_tokens"))]
        rows.append([name, *map(format_count, counts)])
        changed = [file.get("repaired_labels"), sum_counts(file, "carried_over"), sum_counts(file, "redacted")]
        changed.append(file.get("replayed_rows"))
        changes.append([name, *map(format_count, changed), str(file.get("watermark") or "-")])
    lines = [format_columns(rows), "", format_columns(changes)]
    for name, file in files.items():
        for uri, reason in file.get("skipped_files") or []:
            lines.append(_wrap(f"{name}: skipped {uri}", [str(reason)]))
    return "\n".join(lines)


def _format_reasons(report: Mapping[str, Any]) -> str:
    files = report["files"]
    rows = [["what", "reason", "files", "rows"]]
    for key, title in COUNTED_KEYS.items():
        for reason in list_reasons(files, key):
            where = ", ".join(f"{file} {count:,}" for file, count in reason.files.items())
            rows.append([title, reason.name, where, format_count(reason.count)])
    missing = [title for key, title in COUNTED_KEYS.items() if not any(key in file for file in files.values())]
    lines = [format_columns(rows, num_text_columns=3)] if len(rows) > 1 else ["none"]
    if missing:
        lines.append(f"{', '.join(missing)}: {NOT_COMPUTED}")
    return "\n".join(lines)


def _format_names(report: Mapping[str, Any]) -> str:
    lines = []
    for name, file in report["files"].items():
        for key in ("categories", "languages"):
            counts = file.get(key)
            if counts is None:
                lines.append(f"{make_printable(name)}, {key}: {NOT_COMPUTED}")
            elif counts:
                lines.append(_wrap(f"{name}, {key}", _list_most(counts)))
    return "\n".join(lines) or "none"


def _format_coverage(report: Mapping[str, Any]) -> str:
    rows = [["level", "labels", "no example", "1 example", "2 to 4", "5 and more"]]
    for level, labels, split in list_coverage(report):
        rows.append([level, *map(format_count, (labels, split["none"], split["one"], split["few"], split["enough"]))])
    lines = [format_columns(rows)] if len(rows) > 1 else [NOT_COMPUTED]
    unseen = report["coverage"].get("unseen") or []
    if unseen:
        more = [f"and {len(unseen) - _MAX_UNSEEN:,} more"] if len(unseen) > _MAX_UNSEEN else []
        lines.append(_wrap("leaves without an example", [*unseen[:_MAX_UNSEEN], *more], separator="; "))
    only_test = count_unseen_in_training(report)
    lines.append(
        f"leaves of the test set without a training example: {NOT_COMPUTED if only_test is None else only_test}"
    )
    return "\n".join(lines)


def _format_figures(part: Mapping[str, Any]) -> str:
    figures = list_figures(part)
    if not figures:
        return "nothing was counted"
    rows = [["where", "what", "figure"]]
    rows += [
        [" / ".join(figure.where), figure.what.replace("_", " "), _format_any(figure.value)]
        for figure in figures
        if figure.value
    ]
    zeros = [
        what for what in dict.fromkeys(f.what for f in figures) if not any(f.value for f in figures if f.what == what)
    ]
    lines = [format_columns(rows, num_text_columns=2)] if len(rows) > 1 else []
    if zeros:
        lines.append(_wrap("0 everywhere", [zero.replace("_", " ") for zero in zeros]))
    return "\n".join(lines)


def _format_held_out(strata: Sequence[Mapping[str, Any]]) -> str:
    rows = [["source", "category", "usable rows", "held out", "of these alike in training"]]
    for entry in strata:
        counts = [format_count(entry[key]) for key in ("usable", "held_out", "alike_in_training")]
        rows.append([entry["name"], entry["category"] or "(all)", *counts])
    return format_columns(rows, num_text_columns=2)


def _format_packing(report: Mapping[str, Any]) -> str:
    rows = [["sequence length", "packed rows", "efficiency", "too long"]]
    for length, plan in report["packing"].items():
        efficiency = format_share(plan.get("efficiency"))
        rows.append([str(length), format_count(plan.get("rows")), efficiency, format_count(plan.get("too_long"))])
    return format_columns(rows) if len(rows) > 1 else NOT_COMPUTED


def _format_any(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "yes" if value is True else f"{value:,}"


def _list_most(counts: Mapping[str, int]) -> list[str]:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{name} {count:,}" for name, count in most[:_MAX_CATEGORIES]]
    rest = most[_MAX_CATEGORIES:]
    return [*named, f"{len(rest)} others {sum(count for _, count in rest):,}"] if rest else named


def _wrap(title: str, items: Iterable[str] | Sequence[str], separator: str = ", ") -> str:
    text = make_printable(f"{title}: {separator.join(items)}")
    return "\n".join(textwrap.wrap(text, MAX_WIDTH, subsequent_indent="  ", break_on_hyphens=False))
