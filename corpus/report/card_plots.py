"""The data card's pictures as SVG to put into a page: what is asked of the model, how long, how even, in which languages.

Texts stay texts, so that the reader's browser draws scripts and emoji that no plot font has. The same report
gives the same bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from corpus.report.card_axes import (
    STYLE,
    TRAIN_COLOR,
    WIDTH_INCHES,
    draw_named_bars,
    finish_bars,
    to_shares,
    to_svg,
    use_log_axis,
)
from corpus.report.card_label_plots import draw_classes, draw_coverage, draw_ranks
from corpus.report.card_summary import count
from corpus.report.report_view import TEST, Draw, get_sources, list_draws
from voc.text_table import make_printable, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, in an order in which neighbours differ in lightness too; the last is for "others".
PART_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#44546a", "#b8bec8")
MAX_SOURCES, MAX_LANGUAGES, MAX_ARMS = 8, 12, 12
OTHERS = "others"


def draw_figures(report: Mapping[str, Any]) -> dict[str, str]:
    """Draw every picture for which the report has the figures.

    Returns:
        SVG elements by name: `classes`, `ranks`, `coverage`, `shares`, `lengths`, `languages`; each describes itself.
    """
    import matplotlib as mpl

    drawers: dict[str, tuple[str, Callable[[Mapping[str, Any]], Figure | None]]] = {
        "classes": ("Share of segments per label at each level, training against test", draw_classes),
        "ranks": ("Training examples of every full label path against its rank, on logarithmic axes", draw_ranks),
        "coverage": ("Labels of each level by their number of training examples", draw_coverage),
        "shares": ("What each source gives to each arm: samples, tokens, assistant tokens", draw_shares),
        "lengths": ("Rows by length in tokens, one histogram for each source", draw_lengths),
        "languages": ("Share of comments per language, training against test", draw_languages),
    }
    figures = {}
    for name, (description, draw) in drawers.items():
        with mpl.rc_context(cast("Any", {**STYLE, "svg.hashsalt": name})), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure = draw(report)
            if figure is not None:
                figures[name] = to_svg(figure, name, description)
    return figures


def draw_shares(report: Mapping[str, Any]) -> Figure | None:
    """Draw for each arm what its sources give: of samples, of tokens, of assistant tokens."""
    from matplotlib.figure import Figure

    arms = {name: list_draws(arm) for name, arm in list((report.get("arms") or {}).items())[:MAX_ARMS]}
    measures = ("samples", "tokens", "assistant_tokens")
    bars = [
        (name, measure, draws)
        for name, draws in arms.items()
        for measure in measures
        if any(draw.shares[measure] for draw in draws)
    ]
    if not bars:
        return None
    colors = _color_parts(bars)
    num_lines = -(-len(colors) // 3)
    figure = Figure(
        figsize=(WIDTH_INCHES, 0.6 + 0.28 * len(bars) + 0.22 * num_lines + 0.12 * len(arms)), layout="constrained"
    )
    axes = figure.subplots()
    places, place, previous = [], 0.0, None
    for name, measure, draws in bars:
        place += 1.5 if previous not in (None, name) else 1.0
        previous = name
        places.append(place)
        _draw_stack(axes, place, _group_parts(draws, measure, colors), colors)
    labels = [f"{shorten(make_printable(name), 28)}: {measure.replace('_', ' ')}" for name, measure, _ in bars]
    axes.set_yticks(places, labels)
    left_out = len(report["arms"]) - len(arms)
    if left_out:
        axes.set_xlabel(f"{left_out} more arms are not drawn")
    legend = [(shorten(make_printable(title), 36), color) for title, color in colors.items()]
    finish_bars(figure, axes, legend, num_columns=3)
    return figure


def draw_lengths(report: Mapping[str, Any]) -> Figure | None:
    """Draw how long the rows of each source are, one histogram under the other on one logarithmic axis."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    files = [
        (name, file) for name, file in get_sources(report).items() if any((file.get("lengths") or {}).get("counts", []))
    ]
    if not files:
        return None
    shown = sorted(files, key=lambda item: -item[1]["rows"])[:MAX_SOURCES]
    figure = Figure(figsize=(WIDTH_INCHES, 0.5 + 1.15 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False).flat
    for axes, (name, file) in zip(panels, shown, strict=True):
        edges, counts = file["lengths"]["edges"], file["lengths"]["counts"]
        used = [index for index, number in enumerate(counts) if number]
        axes.stairs(
            counts[used[0] : used[-1] + 1],
            [max(edge, 8) for edge in edges[used[0] : used[-1] + 2]],
            fill=True,
            color=TRAIN_COLOR,
            alpha=0.75,
        )
        longest = f", longest {count(file['longest_tokens'])}" if file.get("longest_tokens") is not None else ""
        axes.set_title(f"{shorten(make_printable(name), 60)}: {count(file['rows'])} rows{longest}")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    use_log_axis(axes, "x", base=2)
    left_out = len(files) - len(shown)
    axes.set_xlabel("tokens of a row" + (f" ({left_out} smaller sources are not drawn)" if left_out else ""))
    return figure


def draw_languages(report: Mapping[str, Any]) -> Figure | None:
    """Draw the share of each language in the training comments (general rows have categories) beside the test set's."""
    from matplotlib.figure import Figure

    train: dict[str, int] = {}
    sources = get_sources(report).values()
    for file in [file for file in sources if not file.get("categories")] or sources:
        for code, rows in (file.get("languages") or {}).items():
            train[code] = train.get(code, 0) + rows
    test = ((report.get("files") or {}).get(TEST) or {}).get("languages") or {}
    if not train and not test:
        return None
    most = sorted({*train, *test}, key=lambda code: (-train.get(code, 0), -test.get(code, 0), code))
    names, rest = most[:MAX_LANGUAGES], most[MAX_LANGUAGES:]
    shares, test_shares = to_shares(train, names), to_shares(test, names)
    if rest:
        names = [*names, f"{len(rest)} others"]
        shares.append(sum(to_shares(train, rest)))
        test_shares.append(sum(to_shares(test, rest)))
    figure = Figure(figsize=(WIDTH_INCHES, 0.9 + 0.26 * len(names)), layout="constrained")
    axes = figure.subplots()
    draw_named_bars(axes, [shorten(make_printable(name), 24) for name in names], shares, test_shares)
    axes.legend(frameon=False, loc="lower right")
    axes.set_xlabel("share of comments")
    return figure


def _color_parts(bars: Sequence[tuple[str, str, Sequence[Draw]]]) -> dict[str, str]:
    """Give the parts with the largest shares anywhere a colour of their own; the rest are others."""
    largest: dict[str, float] = {}
    for _, measure, draws in bars:
        for draw in draws:
            largest[draw.title] = max(largest.get(draw.title, 0.0), draw.shares[measure] or 0.0)
    most = sorted(largest, key=lambda title: (-largest[title], title))
    own = most if len(most) < len(PART_COLORS) else most[: len(PART_COLORS) - 1]
    colors = dict(zip(own, PART_COLORS, strict=False))
    return colors if len(own) == len(most) else {**colors, OTHERS: PART_COLORS[-1]}


def _group_parts(draws: Sequence[Draw], measure: str, colors: Mapping[str, str]) -> dict[str, float]:
    parts = dict.fromkeys(colors, 0.0)
    for draw in draws:
        parts[draw.title if draw.title in colors else OTHERS] += draw.shares[measure] or 0.0
    return parts


def _draw_stack(axes: Axes, place: float, parts: Mapping[str, float], colors: Mapping[str, str]) -> None:
    left = 0.0
    for title, share in parts.items():
        axes.barh(place, share, left=left, color=colors[title], height=0.8)
        if share >= 0.06:
            color = "white" if title in list(colors)[:1] else "black"
            axes.text(left + share / 2, place, f"{share:.0%}", ha="center", va="center", fontsize=8, color=color)
        left += share
