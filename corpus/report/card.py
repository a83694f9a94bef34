"""The data card: one HTML page that says what goes into a night, what was refused, and why; for people who do not write code.

It opens from disk, asks for nothing from the network, needs no script and prints well. Every text from data is escaped, and
comments are never on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpus.report.card_plots import draw_figures
from corpus.report.card_summary import (
    NOT_COMPUTED,
    count,
    describe_arms,
    list_attention,
    list_headlines,
    percent,
    plural,
)
from corpus.report.mix_table import COUNTED_KEYS
from corpus.report.reasons import EXPLANATIONS, explain
from corpus.report.report_view import (
    Figure,
    count_unseen_in_training,
    count_used,
    get_sources,
    list_coverage,
    list_detailed_draws,
    list_figures,
    list_reasons,
    sum_counts,
)
from voc.labels.taxonomy import LEVELS
from voc.text_table import make_printable

TEMPLATES = Path(__file__).parent / "templates"
MAX_UNSEEN, MAX_NAMES, MAX_LABELS = 50, 30, 20
_PARTS = {"duplicates": "Duplicates and leakage", "contamination": "Contamination with the evaluation sets"}


def render_card(report: Mapping[str, Any], *, title: str, generated_for: str) -> str:
    """Return the page.

    Args:
        report: What `data_report.json` holds; a part that is absent is said to be not computed.
        title: The page's heading.
        generated_for: What the card was made for: a run, a configuration, a day.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: make_printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "count": count,
        "percent": percent,
        "total": sum_counts,
        "used": count_used,
        "number": _format_number,
        "plural": plural,
    }
    # The pictures are the only markup that is not the template's; `card_plots` escapes the texts in them.
    figures = {name: Markup(svg) for name, svg in draw_figures(report).items()}  # noqa: S704
    return environment.get_template("data_card.html").render(
        not_computed=NOT_COMPUTED,
        title=title,
        generated_for=generated_for,
        figures=figures,
        headlines=list_headlines(report),
        arm_sentences=describe_arms(report),
        attention=list_attention(report),
        **_collect_tables(report),
    )


def _collect_tables(report: Mapping[str, Any]) -> dict[str, Any]:
    files = report.get("files") or {}
    classes = (report.get("classes") or {}).get("train") or {}
    return {
        "files": files,
        "sources": get_sources(report),
        "reasons": {key: list_reasons(files, key) for key in COUNTED_KEYS},
        "uncounted": [title for key, title in COUNTED_KEYS.items() if not any(key in file for file in files.values())],
        "explain": explain,
        "explained": EXPLANATIONS.keys(),
        "arms": {name: (arm, list_detailed_draws(arm)) for name, arm in (report.get("arms") or {}).items()},
        "coverage": list_coverage(report),
        "unseen": (report.get("coverage") or {}).get("unseen"),
        "only_test": count_unseen_in_training(report),
        "names": {
            name: {key: _list_most(file.get(key)) for key in ("categories", "languages")}
            for name, file in files.items()
        },
        "labels": {
            kind: _list_most(classes.get(kind), MAX_LABELS) for kind in (*LEVELS[:2], "path", "emotion", "segments")
        },
        "parts": {_PARTS[key]: _tabulate(report.get(key)) for key in _PARTS},
        "packing": report.get("packing"),
        "held_out": report.get("validation"),
        "max_unseen": MAX_UNSEEN,
    }


def _list_most(counts: Mapping[str, int] | None, limit: int = MAX_NAMES) -> list[tuple[str, int]] | None:
    """Return the most frequent names, and how much the others hold together; None if nothing was counted."""
    if counts is None:
        return None
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = most[limit:]
    return most[:limit] + ([(f"{count(len(rest))} others", sum(number for _, number in rest))] if rest else [])


def _tabulate(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Split the figures of a part into those to show in full and the names of those that are 0 everywhere."""
    if part is None:
        return None
    figures = list_figures(part)
    shown: list[Figure] = [figure for figure in figures if figure.value]
    zeros = dict.fromkeys(figure.what for figure in figures)
    return {"figures": shown, "zeros": [what for what in zeros if what not in {figure.what for figure in shown}]}


def _format_number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "yes" if value is True else count(value)
