"""The report as one static HTML file: opens from disk, asks for nothing from the network, prints well.

Every text from data or models is escaped, bounded in length, and free of characters that hide or turn what is beside them;
pictures are inlined; a content security policy in the page forbids scripts and requests to whatever might slip through.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from evaluation.report.text_tables import format_figure
from evaluation.suites.registry import list_suites
from voc.text_table import make_printable

TEMPLATES = Path(__file__).parent / "templates"
_SHARD_STAGE = re.compile(r"(.+)-\d{3}-of-(\d{3})")
MAX_TEXT = 2000


def render_html(report: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    """Return the page."""
    from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
    from markupsafe import Markup

    parts = {suite.name: suite.report for suite in list_suites()}
    folders = {name: FileSystemLoader(part.templates) for name, part in parts.items() if part.templates}
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(TEMPLATES), PrefixLoader(folders)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: make_harmless(value) if type(value) is str else value,
    )
    environment.filters |= {
        "share": format_figure,
        "signed": lambda value: f"{value:+.3f}",
        "figure": lambda value, rule: f"{value:.3f}" if rule == "<=" else f"{value:+.3f}",
        "count": lambda value: f"{value:,}".replace(",", " "),
        "duration": format_duration,
        "words": lambda name: str(name).replace("_", " "),
        "path": " > ".join,
    }
    # Base64 of our own pictures: nothing to escape, and longer than a text may be.
    images = {
        name: Markup(f"data:image/png;base64,{base64.b64encode(data).decode()}")  # noqa: S704
        for name, data in plots.items()
    }
    columns = report["table"]["columns"]
    values: dict[str, Any] = {"suite_titles": {}, "example_titles": {}, "sections": []}
    for name, part in parts.items():
        values["suite_titles"] |= part.titles
        values["example_titles"] |= part.example_titles
        values["sections"] += [
            {**asdict(section), "template": f"{name}/{section.name}.html.j2"}
            for section in part.list_sections(report["results"])
        ]
        values |= part.page_values
    return environment.get_template("report.html.j2").render(
        **values,
        report=report,
        images=images,
        groups=[list(group) for _, group in groupby(columns, key=itemgetter("group"))],
        main_columns=[column for column in columns if column["is_main"]],
        stages=group_stages(report["timings"]),
    )


def make_harmless(text: str) -> str:
    """Return a text that cannot be too long for the page, hide characters, or turn the direction of what follows it.

    Control characters and marks of direction are spelled out; line breaks and tabs stay.
    """
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]} [cut: {len(text)} characters]"
    return "\n".join("\t".join(map(make_printable, line.split("\t"))) for line in text.split("\n"))


def format_duration(seconds: float) -> str:
    """Return seconds as `1 h 02 min`, `3 min 05 s` or `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def group_stages(timings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put the shards of one suite on one line: how many there were, and how long the slowest and all of them together took."""
    groups: dict[str, dict[str, Any]] = {}
    for timing in timings:
        match = _SHARD_STAGE.fullmatch(timing["stage"])
        name = match[1] if match else timing["stage"]
        group = groups.setdefault(name, {"stage": name, "shards": 0, "wall_s": 0.0, "sum_s": 0.0})
        group["shards"] += 1
        group["wall_s"] = max(group["wall_s"], timing["wall_s"])
        group["sum_s"] += timing["wall_s"]
    return list(groups.values())
