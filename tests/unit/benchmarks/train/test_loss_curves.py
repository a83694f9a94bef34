from __future__ import annotations

import numpy as np
import pytest

from benchmarks.train.loss_curves import align, compare, draw_curves, format_curves, smooth


def make_steps(losses: list[float], learned: int = 10) -> list[dict[str, float]]:
    return [{"loss": loss, "learned": learned} for loss in losses]


def test_a_window_is_weighted_by_learned_tokens_and_lies_at_its_middle() -> None:
    steps = [{"loss": 4.0, "learned": 30}, {"loss": 2.0, "learned": 10}, {"loss": 1.0, "learned": 10}]
    places, losses = smooth(steps, window=2)
    assert places.tolist() == [20, 40]
    assert losses.tolist() == [3.5, 1.5]


def test_a_curve_shorter_than_the_window_is_one_mean() -> None:
    assert smooth(make_steps([3.0, 1.0]), window=5)[1].tolist() == [2.0]


def test_curves_are_compared_where_both_are_known() -> None:
    one = smooth(make_steps([5.0, 4.0, 3.0, 2.0]), window=1)
    other = smooth(make_steps([4.0, 3.5], learned=20), window=1)  # at 10 and 30 learned tokens
    places, found = align({"one": one, "other": other})
    assert places.tolist() == [15, 25]
    np.testing.assert_allclose(found["other"], [3.875, 3.625])
    assert compare(one, other) == {"largest": 0.625, "at_learned_tokens": 25, "last": 0.625}


def test_curves_without_a_common_place_are_refused() -> None:
    with pytest.raises(ValueError, match="no place in common"):
        align({"one": smooth(make_steps([1.0])), "other": smooth(make_steps([1.0], learned=500))})


def test_a_curve_needs_a_step() -> None:
    with pytest.raises(ValueError, match="without steps"):
        smooth([])


def test_the_table_shows_the_first_and_the_last_place_of_all_sides() -> None:
    curves = {"ours": smooth(make_steps([9.0] * 40), 1), "trl": smooth(make_steps([8.0] * 40), 1)}
    head, first, *_, last = format_curves(curves).splitlines()
    assert head.split() == ["learned", "tokens", "ours", "trl"]
    assert first.split() == ["5", "9.0000", "8.0000"]
    assert last.split() == ["395", "9.0000", "8.0000"]


def test_the_picture_is_written(tmp_path) -> None:
    draw_curves({"ours": smooth(make_steps([3.0, 2.0, 1.0]), 1)}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
