"""The report as one static HTML file: opens from disk, asks for nothing from the network, prints well.

Every text from data or models is escaped; pictures are inlined.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.metrics import AVERAGES, FIGURES
from evaluation.report_table import format_figure
from voc.taxonomy import LEVELS

TEMPLATES = Path(__file__).parent / "templates"
EXAMPLE_TITLES = {
    "voc_empty": "VOC: empty answer",
    "voc_not_json": "VOC: not JSON",
    "voc_truncated": "VOC: cut before its end",
    "voc_wrong_shape": "VOC: JSON of another shape",
    "voc_duplicate_keys": "VOC: the same key twice",
    "voc_not_a_number": "VOC: NaN or an infinity",
    "voc_damaged_text": "VOC: damaged text",
    "voc_too_deep": "VOC: nested too deep",
    "voc_too_long": "VOC: too long to read",
    "voc_wrong": "VOC: readable, no label right",
    "schema_leak": "Question answered in VOC JSON",
    "no_closing_sentence": "No closing sentence",
    "wrong_answer": "Wrong letter",
}


def render_html(report: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["share"] = format_figure
    environment.filters["signed"] = lambda value: f"{value:+.3f}"
    environment.filters["figure"] = lambda value, rule: f"{value:.3f}" if rule == "<=" else f"{value:+.3f}"
    environment.filters["count"] = lambda value: f"{value:,}".replace(",", " ")
    environment.filters["duration"] = format_duration
    images = {name: f"data:image/png;base64,{base64.b64encode(data).decode()}" for name, data in plots.items()}
    return environment.get_template("report.html.j2").render(
        report=report,
        images=images,
        averages=AVERAGES,
        figures=FIGURES,
        levels=LEVELS,
        example_titles=EXAMPLE_TITLES,
    )


def format_duration(seconds: float) -> str:
    """Return seconds as `1 h 02 min`, `3 min 05 s` or `4.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
