"""The data card's pictures as SVG to put into a page: what is asked of the model, how long, how even, in which languages.

Texts stay texts, so that the reader's browser draws scripts and emoji that no plot font has. The same report gives the same
bytes. Above are the pictures of sources and arms, then those of the labels, then what all share: one look, axes with plain
numbers, and the way from a figure into a page.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from corpus.report.data_report import TEST, Draw, count, get_sources, list_coverage, list_draws
from voc.labels.taxonomy import LEVELS
from voc.text_table import make_printable, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, in an order in which neighbours differ in lightness too; the last is for "others".
PART_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#44546a", "#b8bec8")
MAX_SOURCES, MAX_LANGUAGES, MAX_ARMS = 8, 12, 12
OTHERS = "others"
COVERAGE_COLORS = {"none": "#b3371e", "one": "#e69f00", "few": "#9ecae1", "enough": "#1f5fa8"}
COVERAGE_NAMES = {"none": "no example", "one": "1 example", "few": "2 to 4", "enough": "5 and more"}
MAX_NAMED, MAX_BARS = 12, 80
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


def draw_classes(report: Mapping[str, Any]) -> Figure | None:
    """Draw each level's labels by training frequency: bars for training, dots for test, as shares of all segments.

    A few labels are named; more labels than can be told apart are drawn against their rank, both axes logarithmic.
    """
    from matplotlib.figure import Figure

    train, test = _get_classes(report, "train"), _get_classes(report, TEST)
    if not any(train.get(level) for level in LEVELS):
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 6.4), layout="constrained")
    for axes, level in zip(figure.subplots(2, 2).flat, LEVELS, strict=True):
        counts, test_counts = train.get(level, {}), test.get(level, {})
        names = sorted(
            {*counts, *test_counts}, key=lambda name: (-counts.get(name, 0), -test_counts.get(name, 0), name)
        )
        _draw_level(axes, names, to_shares(counts, names), to_shares(test_counts, names))
        unseen = sum(name not in counts for name in names)
        axes.set_title(f"{level}: {count(len(names))} labels" + (f", {count(unseen)} only in test" if unseen else ""))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper right", ncols=2)
    return figure


def draw_ranks(report: Mapping[str, Any]) -> Figure | None:
    """Draw how many training examples each full path has, the most frequent first, and where the test set's paths are.

    A few paths are named in `draw_classes` already.
    """
    from matplotlib.figure import Figure

    train, test = _get_classes(report, "train").get("path", {}), _get_classes(report, TEST).get("path", {})
    if len(train) <= MAX_NAMED:
        return None
    names = sorted(train, key=lambda name: (-train[name], name))
    figure = Figure(figsize=(WIDTH_INCHES, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        range(1, len(names) + 1), [train[name] for name in names], color=TRAIN_COLOR, lw=2, label="training examples"
    )
    ranks = [rank for rank, name in enumerate(names, start=1) if name in test]
    counts = [test[name] for name in names if name in test]
    axes.plot(ranks, counts, ".", color=TEST_COLOR, markersize=3, label="test examples")
    axes.set(xlabel="rank of the label path in training", ylabel="segments")
    use_log_axis(axes, "x")
    use_log_axis(axes, "y")
    axes.axhline(5, color=MUTED, lw=0.8, ls=":")
    axes.annotate("5 examples", (1, 5), xytext=(0, 3), textcoords="offset points", color=MUTED, fontsize=8)
    axes.legend(frameon=False, loc="upper right")
    missing = (report.get("coverage") or {}).get("without_examples")
    suffix = f"; {count(missing)} more have no training example" if missing else ""
    axes.set_title(f"{count(len(names))} label paths in training{suffix}")
    return figure


def draw_coverage(report: Mapping[str, Any]) -> Figure | None:
    """Draw for each level which share of its labels has no, one, few or enough training examples."""
    from matplotlib.figure import Figure

    levels = list_coverage(report)
    if not levels:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 0.75 + 0.4 * len(levels)), layout="constrained")
    axes = figure.subplots()
    for key in COVERAGE_NAMES:
        left = [sum(split[other] for other in _before(key)) / max(labels, 1) for _, labels, split in levels]
        widths = [split[key] / max(labels, 1) for _, labels, split in levels]
        axes.barh(range(len(levels)), widths, left=left, color=COVERAGE_COLORS[key], height=0.7)
        for row, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 0.05:
                dark = key in ("none", "enough")
                color = "white" if dark else "black"
                axes.text(
                    start + width / 2,
                    row,
                    f"{count(levels[row][2][key])}",
                    ha="center",
                    va="center",
                    color=color,
                    fontsize=8,
                )
    axes.set_yticks(range(len(levels)), [f"{level} ({count(labels)})" for level, labels, _ in levels])
    legend = [(name, COVERAGE_COLORS[key]) for key, name in COVERAGE_NAMES.items()]
    finish_bars(figure, axes, legend, num_columns=4)
    return figure


def _draw_level(axes: Axes, names: Sequence[str], train: Sequence[float], test: Sequence[float]) -> None:
    if len(names) <= MAX_NAMED:
        draw_named_bars(axes, [shorten(make_printable(name.rsplit(" > ", 1)[-1]), 26) for name in names], train, test)
        return
    ranks = range(1, len(names) + 1)
    if len(names) <= MAX_BARS:
        axes.bar(ranks, train, color=TRAIN_COLOR, alpha=0.6, width=0.9, label="training")
        axes.plot(ranks, test, ".", color=TEST_COLOR, markersize=4, label="test")
        axes.yaxis.set_major_formatter(make_percent_formatter())
    else:
        edges = [rank - 0.5 for rank in range(1, len(names) + 2)]
        axes.stairs(train, edges, fill=True, color=TRAIN_COLOR, alpha=0.6, label="training")
        seen = [(rank, share) for rank, share in zip(ranks, test, strict=True) if share]
        test_ranks, test_shares = [rank for rank, _ in seen], [share for _, share in seen]
        axes.plot(test_ranks, test_shares, ".", color=TEST_COLOR, markersize=2.5, label="test")
        use_log_axis(axes, "x")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(make_percent_formatter())
        axes.minorticks_off()
    axes.set_xlabel("rank in training")
    axes.set_ylabel("share of segments")


def _before(key: str) -> list[str]:
    keys = list(COVERAGE_NAMES)
    return keys[: keys.index(key)]


def _get_classes(report: Mapping[str, Any], part: str) -> Mapping[str, Mapping[str, int]]:
    classes: Mapping[str, Mapping[str, int]] = (report.get("classes") or {}).get(part) or {}
    return classes


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
