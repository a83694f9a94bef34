"""What the data card's pictures share: one look, axes with plain numbers, and the way from a figure into a page."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from corpus.report.card_summary import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN_COLOR, TEST_COLOR, MUTED = "#1f5fa8", "#c4472b", "#697181"
WIDTH_INCHES = 9.0
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "svg.fonttype": "none",
    "text.parse_math": False,
}


def to_shares(counts: Mapping[str, int], names: Sequence[str]) -> list[float]:
    """Return the share of each name in all counts."""
    total = max(sum(counts.values()), 1)
    return [counts.get(name, 0) / total for name in names]


def draw_named_bars(axes: Axes, names: Sequence[str], train: Sequence[float], test: Sequence[float]) -> None:
    """Draw shares under their names, the first on top: bars for training, diamonds for test."""
    places = range(len(names))
    axes.barh(places, train, color=TRAIN_COLOR, alpha=0.6, height=0.72, label="training")
    if any(test):
        axes.plot(test, places, "D", color=TEST_COLOR, markersize=4, label="test")
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(make_percent_formatter())


def finish_bars(figure: Figure, axes: Axes, legend: Sequence[tuple[str, str]], *, num_columns: int) -> None:
    """Give stacked shares their axis, and a legend of (name, colour) above them."""
    from matplotlib.patches import Patch

    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(make_percent_formatter())
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    handles = [Patch(color=color, label=name) for name, color in legend]
    figure.legend(handles=handles, frameon=False, loc="outside upper left", ncols=num_columns, fontsize=8.5)


def use_log_axis(axes: Axes, name: str, base: int = 10) -> None:
    """Use a logarithmic axis with plain numbers: powers would be drawn as formulas."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis = axes.xaxis if name == "x" else axes.yaxis
    (axes.set_xscale if name == "x" else axes.set_yscale)("log", base=base)
    axis.set_major_formatter(FuncFormatter(lambda value, _: count(round(value)) if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def make_percent_formatter() -> Any:
    """Return a formatter of shares."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value * 100:.6g} %")


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Return the picture as an element of an HTML page: named for screen readers, its ids its own, nothing to fetch."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    # Matplotlib escapes "<" in texts, so what is between angle brackets is its own.
    svg = re.sub(r"<[^>]*>", lambda tag: _adopt_tag(tag.group(), name), text[text.index("<svg") :])
    title = html.escape(description)
    head = f'<svg role="img" aria-labelledby="{name}-title"'
    begin = svg.index(">") + 1
    return f'{head}{svg[4:begin]}<title id="{name}-title">{title}</title>{svg[begin:].strip()}'


def _adopt_tag(tag: str, name: str) -> str:
    tag = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", tag).replace("xlink:href", "href")
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    return tag.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
