"""The pictures say what the table says."""

import pytest

from evaluation.report.plots import MAX_BARS, draw_classes, draw_plots, draw_trade_off
from voc.labels.taxonomy import LEVELS


def _figure(value):
    return {"value": value, "low": max(value - 0.1, 0), "high": min(value + 0.1, 1)}


def _table(*rows):
    return {
        "voc_average": "micro",
        "lookup_floor": {"f1": 0.5},
        "chance": 0.25,
        "rows": [
            {
                "title": title,
                "voc_f1": _figure(f1),
                "log_likelihood": _figure(known),
                "generative_strict": _figure(written),
            }
            for title, f1, known, written in rows
        ],
    }


def _classes(num):
    counts = {level: {f"{level} > name {i}": num - i for i in range(num)} for level in LEVELS}
    return {"train": counts, "test": {level: {**dict(list(c.items())[:2]), "new": 1} for level, c in counts.items()}}


def test_every_model_has_both_protocols_and_a_name():
    axes = draw_trade_off(_table(("base", 0, 1, 1), ("tuned", 0.9, 0.6, 0.1))).axes[0]
    assert {text.get_text() for text in axes.texts} >= {"base", "tuned", "chance"}
    assert len(axes.containers) == 4


def test_rows_of_other_runs_are_points_without_a_name_and_the_frontier_is_a_step_line():
    table, earlier = _table(("base", 0.1, 0.9, 0.9), ("tuned", 0.9, 0.6, 0.1)), _table(("old", 0.5, 0.7, 0.6))["rows"]
    partly = {**earlier[0], "generative_strict": None}
    frontier = [{key: row[key] for key in ("voc_f1", "generative_strict")} for row in (*table["rows"], *earlier)]
    axes = draw_trade_off(table, [*earlier, partly], sorted(frontier, key=lambda p: p["voc_f1"]["value"])).axes[0]
    assert len(axes.containers) == 4 + 1
    assert "old" not in {text.get_text() for text in axes.texts}
    steps = [line for line in axes.lines if line.get_drawstyle() == "steps-pre"]
    assert [list(line.get_xdata()) for line in steps] == [[0.1, 0.5, 0.9]]
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert {"frontier (generative)", "other runs (generative)"} <= set(names)


def test_names_of_models_at_one_place_do_not_lie_on_each_other():
    axes = draw_trade_off(_table(("one", 0.9, 0.9, 0.9), ("two", 0.9, 0.9, 0.9), ("three", 0.9, 0.9, 0.9))).axes[0]
    heights = [text.xy[1] for text in axes.texts if text.get_text() in {"one", "two", "three"}]
    assert min(abs(a - b) for i, a in enumerate(heights) for b in heights[:i]) > 0.05


@pytest.mark.parametrize(("num", "named"), [(5, True), (40, False)])
def test_classes_are_named_while_there_are_few_and_new_ones_are_said(num, named):
    axes = draw_classes(_classes(num)).axes[0]
    assert axes.get_title(loc="left") == f"L1: {num + 1} labels, 1 only in test"
    assert bool(axes.get_xticklabels()) == named


def test_more_labels_than_can_be_told_apart_are_shown_by_rank_on_logarithmic_axes():
    few, many = (draw_classes(_classes(num)).axes[0] for num in (MAX_BARS - 1, MAX_BARS))
    assert (few.get_yscale(), many.get_yscale(), many.get_xscale()) == ("linear", "log", "log")
    assert [text.get_text() for text in many.get_legend().get_texts()] == ["train", "test"]


def test_plots_are_png_and_the_same_for_the_same_figures():
    report = {
        "table": _table(("base $x_", 0, 1, 1)),
        "history": {"rows": []},
        "frontier": [],
        "data": {"classes": _classes(3)},
    }
    first, second = draw_plots(report), draw_plots(report)
    assert list(first) == ["voc_vs_mmlu.png", "classes.png"]
    assert all(data.startswith(b"\x89PNG") for data in first.values())
    assert first == second
