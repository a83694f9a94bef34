"""The report's pictures as PNG bytes: what fine-tuning gained against what it cost, and how the classes are distributed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from voc.labels.taxonomy import LEVELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 144
KNOWN, WRITTEN, MUTED = "#1f5fa8", "#c4472b", "#8a8f98"
READINGS: dict[str, dict[str, Any]] = {
    "log_likelihood": {
        "color": KNOWN,
        "label": "log-likelihood (knowledge)",
        "marker": "o",
        "markersize": 10,
        "mfc": "white",
    },
    "generative_strict": {
        "color": WRITTEN,
        "label": "generative (knowledge and form)",
        "marker": "s",
        "markersize": 5,
    },
}
MAX_NAMED_CLASSES, MAX_BARS = 12, 80
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_plots(report: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw every picture of the report.

    Returns:
        PNG bytes per file name.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context(STYLE):
        return {
            "voc_vs_mmlu.png": _to_png(draw_trade_off(report["table"], report["history"]["rows"], report["frontier"])),
            "classes.png": _to_png(draw_classes(report["data"]["classes"])),
        }


def _to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def draw_trade_off(
    table: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]] = (), frontier: Sequence[Mapping[str, Any]] = ()
) -> Figure:
    """Draw VOC F1 against accuracy: per model both protocols, joined, so that the line's length is what the form cost.

    Rows of other runs are grey and without names; the step line joins what no other row beats in VOC F1 and generative
    accuracy.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.subplots()
    if len(frontier) > 1:
        places = [(point["voc_f1"]["value"], point["generative_strict"]["value"]) for point in frontier]
        axes.plot(*zip(*places, strict=True), color=WRITTEN, alpha=0.35, lw=4, drawstyle="steps-pre", zorder=0)
        axes.plot([], [], color=WRITTEN, alpha=0.35, lw=4, label="frontier (generative)")
    others = [row for row in earlier if row["voc_f1"] and row["generative_strict"]]
    for row in others:
        style = {"marker": "s", "markersize": 3, "alpha": 0.6, "label": "other runs (generative)"}
        _draw_point(axes, row, "generative_strict", color=MUTED, **style)
    for row in filter(is_drawn, table["rows"]):
        x, readings = row["voc_f1"]["value"], list_readings(row)
        axes.plot([x] * len(readings), [row[name]["value"] for name in readings], color=MUTED, lw=1, zorder=1)
        for name in readings:
            _draw_point(axes, row, name, **READINGS[name])
    _draw_yardsticks(axes, table)
    _name_models(axes, table)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.06, 1.08), xlabel=f"VOC F1 ({table['voc_average']})", ylabel="accuracy")
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), frameon=False, loc="outside upper left", ncols=2)
    return figure


def list_readings(row: Mapping[str, Any]) -> list[str]:
    """Return the protocols that a row has; models that others serve have the generative one at most."""
    return [name for name in READINGS if row[name] is not None]


def is_drawn(row: Mapping[str, Any]) -> bool:
    """Tell whether a row has a place in the picture."""
    return row["voc_f1"] is not None and bool(list_readings(row))


def _draw_yardsticks(axes: Axes, table: Mapping[str, Any]) -> None:
    chance, floor = table["chance"], table["lookup_floor"]["f1"]
    axes.axhline(chance, color=MUTED, lw=0.8, ls=":")
    axes.text(1.045, chance, "chance", color=MUTED, ha="right", va="bottom", fontsize=8)
    axes.axvline(floor, color=MUTED, lw=0.8, ls=":")
    axes.text(floor, 1.06, "look-up floor ", color=MUTED, ha="right", va="top", rotation=90, fontsize=8)


def _draw_point(axes: Axes, row: Mapping[str, Any], name: str, **style: Any) -> None:
    """Draw one accuracy of a row with both of its intervals."""
    x, y = row["voc_f1"], row[name]
    axes.errorbar(
        x["value"],
        y["value"],
        xerr=[[max(x["value"] - x["low"], 0)], [max(x["high"] - x["value"], 0)]],
        yerr=[[max(y["value"] - y["low"], 0)], [max(y["high"] - y["value"], 0)]],
        linestyle="none",
        elinewidth=1,
        zorder=2,
        **style,
    )


def _name_models(axes: Axes, table: Mapping[str, Any]) -> None:
    """Write each model's title beside the middle of its line; models at the same place get one line each."""
    placed: list[tuple[float, float]] = []
    for row in filter(is_drawn, table["rows"]):
        x = row["voc_f1"]["value"]
        heights = [row[name]["value"] for name in list_readings(row)]
        y = sum(heights) / len(heights) - 0.05
        while any(abs(x - other_x) < 0.3 and abs(y - other_y) < 0.055 for other_x, other_y in placed):
            y -= 0.055
        placed.append((x, y))
        offset, side = (-8, "right") if x > 0.5 else (8, "left")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.annotate(
            row["title"], (x, y), xytext=(offset, 0), textcoords="offset points", ha=side, bbox=box, parse_math=False
        )


def draw_classes(classes: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Figure:
    """Draw each level's labels by training frequency: filled for training, dots for test, as shares of all segments.

    More labels than can be told apart are drawn against their rank, both axes logarithmic, so that the tail can be seen.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 6.0), layout="constrained")
    for axes, level in zip(figure.subplots(2, 2).flat, LEVELS, strict=True):
        train, test = classes["train"][level], classes["test"][level]
        names = sorted({*train, *test}, key=lambda name: (-train.get(name, 0), -test.get(name, 0), name))
        _draw_level(axes, names, _to_shares(train, names), _to_shares(test, names))
        unseen = sum(name not in train for name in names)
        suffix = f", {unseen} only in test" if unseen else ""
        axes.set_title(f"{level}: {len(names)} labels{suffix}", loc="left", fontsize=9)
    figure.axes[0].legend(frameon=False)
    figure.supylabel("share of segments", fontsize=9)
    return figure


def _to_shares(counts: Mapping[str, int], names: Sequence[str]) -> list[float]:
    total = max(sum(counts.values()), 1)
    return [counts.get(name, 0) / total for name in names]


def _draw_level(axes: Axes, names: Sequence[str], train: Sequence[float], test: Sequence[float]) -> None:
    ranks = range(1, len(names) + 1)
    if len(names) <= MAX_BARS:
        axes.bar(ranks, train, color=KNOWN, alpha=0.55, width=0.9, label="train")
        axes.plot(ranks, test, ".", color=WRITTEN, markersize=4, label="test")
        axes.set_xticks([])
    else:
        axes.set(xscale="log", yscale="log", xlabel="rank in training")
        axes.stairs(
            train, [rank - 0.5 for rank in range(1, len(names) + 2)], fill=True, color=KNOWN, alpha=0.55, label="train"
        )
        seen = [(rank, share) for rank, share in zip(ranks, test, strict=True) if share]
        axes.plot(
            [rank for rank, _ in seen], [share for _, share in seen], ".", color=WRITTEN, markersize=3, label="test"
        )
    if len(names) <= MAX_NAMED_CLASSES:
        short = [_shorten(name.rsplit(" > ", 1)[-1]) for name in names]
        axes.set_xticks(ranks, short, rotation=35, ha="right", fontsize=7, parse_math=False)


def _shorten(name: str, limit: int = 18) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
