"""The data card's pictures of the labels: how they are distributed, and which of them have examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from corpus.report.card_axes import (
    MUTED,
    TEST_COLOR,
    TRAIN_COLOR,
    WIDTH_INCHES,
    draw_named_bars,
    finish_bars,
    make_percent_formatter,
    to_shares,
    use_log_axis,
)
from corpus.report.card_summary import count
from corpus.report.report_view import TEST, list_coverage
from voc.labels.taxonomy import LEVELS
from voc.text_table import make_printable, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COVERAGE_COLORS = {"none": "#b3371e", "one": "#e69f00", "few": "#9ecae1", "enough": "#1f5fa8"}
COVERAGE_NAMES = {"none": "no example", "one": "1 example", "few": "2 to 4", "enough": "5 and more"}
MAX_NAMED, MAX_BARS = 12, 80


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
