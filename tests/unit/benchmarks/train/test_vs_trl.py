from __future__ import annotations

from typing import Any

import pytest

from benchmarks.train.side import StepClock, read_recipe, split_samples, write_recipe
from benchmarks.train.vs_trl import format_summary, measure_steps, summarise

MIB = 1 << 20


def make_steps(count: int, wall_s: float = 2.0, loss: float = 3.0) -> list[dict[str, float]]:
    return [{"loss": loss, "tokens": 80, "learned": 40, "slots": 100, "wall_s": wall_s, "cpu_s": 2 * wall_s}] * count


def make_run(wall_s: float, pss_mib: float, level_mib: float = 100, loss: float = 3.0) -> dict[str, Any]:
    steps = make_steps(8, wall_s, loss)
    return {
        "steps": steps,
        **measure_steps(steps, 2),
        "memory": {"pss_bytes": pss_mib * MIB},
        "level_pss_bytes": level_mib * MIB,
        "above_level_bytes": (pss_mib - level_mib) * MIB,
        "peak_rss_bytes": pss_mib * MIB,
    }


def test_the_first_steps_and_the_padding_are_not_counted() -> None:
    slow, steps = make_steps(2, wall_s=50.0), make_steps(4)
    assert measure_steps([*slow, *steps], 2) == {
        "counted_steps": 4,
        "tokens_per_s": 40.0,
        "tokens_per_cpu_s": 20.0,
        "padding_ratio": 0.2,
    }


def test_steps_that_are_all_warm_up_are_refused() -> None:
    with pytest.raises(ValueError, match="raise --steps"):
        measure_steps(make_steps(3), 3)


def test_ours_is_compared_with_the_peer_of_the_same_turn() -> None:
    runs = {
        "ours": [make_run(1.0, 600), make_run(4.0, 600), make_run(1.0, 600)],
        "trl": [make_run(2.0, 1200), make_run(8.0, 1200), make_run(3.0, 1200, loss=3.5)],  # the second turn was slow
    }
    summary = summarise(runs)
    assert summary["sides"]["trl"]["n"] == 3
    assert summary["sides"]["trl"]["tokens_per_s_range"] == [10.0, 40.0]
    found = summary["ours_over"]["trl"]
    assert (found["tokens_per_s"], found["peak_pss"], found["above_level"]) == (2.0, 0.5, 0.455)
    assert found["loss_difference"]["largest"] == 0.0
    assert "ours_over" not in summary["sides"]
    assert "ours" not in summary["ours_over"]


def test_the_printed_summary_has_a_row_for_every_side_and_the_curves() -> None:
    runs = {"ours": [make_run(1.0, 600)], "padded": [make_run(4.0, 900, loss=3.25)]}
    text = format_summary(summarise(runs), runs)
    assert 'ours over padded: {"tokens_per_s": 4.0' in text
    assert '"loss_difference": {"largest": -0.25' in text
    assert "3.2500" in text.splitlines()[-1]


def test_a_side_alone_is_compared_with_nothing() -> None:
    assert summarise({"trl": [make_run(1.0, 600)]})["ours_over"] == {}


@pytest.mark.parametrize(("samples", "expected"), [(20, (10, 2)), (40, (8, 5)), (3, (3, 1)), (1, (1, 1))])
def test_the_padded_trainer_takes_about_its_default_batch_and_the_samples_of_a_step(
    samples: int, expected: tuple[int, int]
) -> None:
    assert split_samples(samples) == expected


def test_the_clock_notes_each_step_by_itself() -> None:
    clock = StepClock()
    clock.start()
    clock.end_step(loss=2.0, tokens=5, learned=3, slots=5)
    clock.end_step(loss=1.0, tokens=7, learned=4, slots=8)
    noted = clock.to_json()
    assert [step["tokens"] for step in noted["steps"]] == [5, 7]
    assert all(0 <= step["wall_s"] < 5 for step in noted["steps"])
    assert 0 < noted["level_pss_bytes"] <= noted["peak_rss_bytes"] * 1.01


def test_the_recipe_comes_back_as_it_was_written(tmp_path) -> None:
    write_recipe(tmp_path, {"training": {"max_steps": 3}, "samples": 5})
    assert read_recipe(tmp_path) == {"training": {"max_steps": 3}, "samples": 5}
