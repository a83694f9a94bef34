import pytest

from benchmarks.train.ray_share import WARMUP_STEPS, compare_steps, summarise
from benchmarks.turns import Turn

LAST = WARMUP_STEPS + 3


def make_lines(losses):
    return [
        {"step": step, "tokens": 100 if step <= WARMUP_STEPS else 50 * step, "loss": losses}
        for step in range(1, LAST + 1)
    ]


def make_sides(ray_step_s, torchrun_step_s):
    """Sides in turns of 10 s each; a step of either lasts that long while its side runs."""
    turns = [Turn(("ray", "torchrun")[i % 2], 10.0 * i, 10.0 * i + 10) for i in range(40)]
    ends = {}
    for offset, (side, step_s) in enumerate({"ray": ray_step_s, "torchrun": torchrun_step_s}.items()):
        own_s = [step_s * step for step in range(1, LAST + 1)]
        ends[side] = {step + 1: (s // 10) * 20 + offset * 10 + s % 10 for step, s in enumerate(own_s)}
    return {"ray": make_lines(1.0), "torchrun": make_lines(1.0)}, ends, turns


def test_a_step_lasts_as_long_as_its_own_side_ran():
    figures = compare_steps(*make_sides(4.0, 3.0))
    assert figures["ray_over_torchrun"] == 0.75
    assert figures["interval_95"] == [0.75, 0.75]
    assert figures["step_s"] == {"ray": [4.0] * 3, "torchrun": [3.0] * 3}
    tokens = 50 * sum(range(WARMUP_STEPS + 1, LAST + 1))
    assert figures["tokens_per_s"] == {"ray": round(tokens / 12, 1), "torchrun": round(tokens / 9, 1)}
    assert figures["same_losses"] is True


def test_steps_that_one_side_did_alone_after_the_last_turn_do_not_count():
    steps, ends, turns = make_sides(4.0, 3.0)
    last = next(i for i, turn in enumerate(turns) if turn.end > ends["ray"][LAST])
    assert compare_steps(steps, ends, turns[: last + 1])["counted_steps"] == 3
    assert compare_steps(steps, ends, turns[:last])["counted_steps"] == 2
    with pytest.raises(RuntimeError, match="0 steps in turns after step 10"):
        compare_steps(steps, ends, turns[:2])


def test_another_loss_is_told():
    steps, ends, turns = make_sides(4.0, 3.0)
    steps["ray"] = make_lines(1.0000001)
    assert compare_steps(steps, ends, turns)["same_losses"] is False


def make_pair(ray_s, torchrun_s, wait_s):
    starts = {side: {"parts_s": {"start": wait_s}, "first_step_s": wait_s + 1} for side in ("ray", "torchrun")}
    return {
        "ray_over_torchrun": torchrun_s / ray_s,
        "same_losses": True,
        "step_s": {"ray": [ray_s] * 2, "torchrun": [torchrun_s] * 2},
        "tokens_per_s": {"ray": 1 / ray_s, "torchrun": 1 / torchrun_s},
        "cores": {"ray": 1.0, "torchrun": 1.0},
        "starts": starts,
    }


def test_the_ratio_of_all_pairs_is_taken_step_by_step():
    figures = summarise([make_pair(2.0, 1.0, 20), make_pair(1.0, 2.0, 22), make_pair(4.0, 4.0, 30)])
    assert figures["ray_over_torchrun"] == 1.0  # the geometric mean of 1/2, 2 and 1
    assert figures["interval_95"][0] < 0.7 < 1.4 < figures["interval_95"][1]
    assert figures["parts_s"]["ray"] == {"start": 22}
    assert figures["first_step_s"]["torchrun"] == 23
