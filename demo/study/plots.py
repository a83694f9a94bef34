"""The card's pictures as inline SVG: how the labels, languages, lengths and segments are distributed."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAR, TEST, MUTED = "#1f5fa8", "#c4472b", "#8a8f98"
# A fixed salt gives the SVG's elements the same names on every run.
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "nightforge",
}


def draw_plots(facts: Mapping[str, Any]) -> dict[str, str]:
    """Draw every picture of the card.

    Returns:
        An `<svg>` element per title.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    drawings: dict[str, Callable[[Axes, Mapping[str, Any]], None]] = {
        "Training segments per leaf, by rank": _draw_ranks,
        "Languages": _draw_languages,
        "Length of a comment": _draw_lengths,
        "Segments per comment": _draw_segments,
        "Labels per level": _draw_levels,
        "General rows per category": _draw_categories,
    }
    with mpl.rc_context(STYLE):
        return {title: _draw(draw, facts) for title, draw in drawings.items()}


def _draw(draw: Callable[[Axes, Mapping[str, Any]], None], facts: Mapping[str, Any]) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.1), layout="constrained")
    draw(figure.subplots(), facts)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _draw_ranks(axes: Axes, facts: Mapping[str, Any]) -> None:
    counts = [count for count in facts["classes"]["ranked"] if count]
    axes.plot(range(1, len(counts) + 1), counts, color=BAR, lw=1.8)
    axes.axhline(5, color=MUTED, lw=0.8, ls=":")
    axes.text(1, 5.4, "five examples", color=MUTED, fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="rank of the leaf", ylabel="segments")


def _draw_languages(axes: Axes, facts: Mapping[str, Any]) -> None:
    _draw_shares(axes, list(facts["train"]["languages"]), facts["train"]["languages"], facts["test"]["languages"])
    axes.set_ylabel("share of comments")


def _draw_segments(axes: Axes, facts: Mapping[str, Any]) -> None:
    train, test = facts["train"]["segments_per_comment"], facts["test"]["segments_per_comment"]
    _draw_shares(axes, sorted({*train, *test}), train, test)
    axes.set(xlabel="segments (0: nothing has a label)", ylabel="share of comments")


def _draw_lengths(axes: Axes, facts: Mapping[str, Any]) -> None:
    edges = facts["train"]["lengths"]["edges"]
    names = [f"{low}-" for low in edges]
    train = dict(zip(names, facts["train"]["lengths"]["counts"], strict=True))
    test = dict(zip(names, facts["test"]["lengths"]["counts"], strict=True))
    _draw_shares(axes, names, train, test)
    axes.tick_params(axis="x", rotation=45)
    axes.set(xlabel="characters, from", ylabel="share of comments")


def _draw_shares(axes: Axes, names: Sequence[str], train: Mapping[str, int], test: Mapping[str, int]) -> None:
    for counts, color, label, marker in ((train, BAR, "train", None), (test, TEST, "test", "o")):
        total = max(sum(counts.values()), 1)
        shares = [counts.get(name, 0) / total for name in names]
        if marker is None:
            axes.bar(names, shares, color=color, alpha=0.6, label=label)
        else:
            axes.plot(names, shares, marker, color=color, markersize=4, label=label)
    axes.legend(frameon=False)


def _draw_levels(axes: Axes, facts: Mapping[str, Any]) -> None:
    levels = facts["classes"]["per_level"]
    bars = axes.bar(list(levels), list(levels.values()), color=BAR, alpha=0.6)
    axes.bar_label(bars, fmt="{:,.0f}")
    axes.set(ylabel="labels (full paths)", yscale="log")


def _draw_categories(axes: Axes, facts: Mapping[str, Any]) -> None:
    counts = facts["general"]["categories"]
    names = list(counts)[::-1]
    axes.barh(names, [counts[name] for name in names], color=BAR, alpha=0.6)
    axes.set_xlabel("rows")
