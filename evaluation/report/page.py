"""The report as one static HTML file: opens from disk, asks for nothing from the network, prints well.

Every text from data or models is escaped, bounded in length, and free of characters that hide or turn what is beside them;
pictures are inlined; a content security policy in the page forbids scripts and requests to whatever might slip through.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.report.rows import READINGS
from evaluation.report.suites import group_stages
from evaluation.report.text_tables import format_figure
from evaluation.suites.voc.confusion import KINDS, NOTHING_MISSED
from evaluation.suites.voc.label_scores import AVERAGES, FIGURES
from voc.labels.taxonomy import LEVELS
from voc.text_table import make_printable

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
    "wrong_letter": "Wrong letter",
    "no_letter": "No letter in the answer",
    "other_form": "Right or wrong, in another form",
    "refusal": "Declined to answer",
    "truncated": "Cut at the longest length",
    "empty": "Empty answer",
    "forgotten": "The base knows it, this model does not",
}


READING_TITLES = {
    "log_likelihood": "log-likelihood",
    "generative_strict": "generative, strict",
    "generative_lenient": "generative, lenient",
    "letter_constrained": "letter-constrained",
}
SUITE_TITLES = {
    "voc": "VOC",
    "mmlu_log_likelihood": "log-likelihood",
    "mmlu_generative": "generative",
    "mmlu_letter": "letter-constrained",
}
CONFUSION_TITLES = {
    "same_L3": "sibling (same L3)",
    "same_L2": "same L2",
    "same_L1": "same L1",
    "elsewhere": "elsewhere",
    NOTHING_MISSED: "nothing missed",
}
CAUSE_CLASSES = {"none": "go", "unclear": ""}  # every other cause is a loss
MAX_TEXT = 2000


def render_html(report: Mapping[str, Any], plots: Mapping[str, bytes]) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
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
    return environment.get_template("report.html.j2").render(
        report=report,
        images=images,
        averages=AVERAGES,
        figures=FIGURES,
        levels=LEVELS,
        readings=READINGS,
        reading_titles=READING_TITLES,
        suite_titles=SUITE_TITLES,
        confusion_kinds={kind: CONFUSION_TITLES[kind] for kind in (*KINDS.values(), NOTHING_MISSED)},
        cause_classes=CAUSE_CLASSES,
        example_titles=EXAMPLE_TITLES,
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
