from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.mixing.packing import PackingPlan, pack_window, plan_packing


@st.composite
def samples(draw):
    row_len = draw(st.integers(1, 40))
    lengths = draw(st.lists(st.integers(1, row_len + 5), max_size=60))
    return np.array(lengths, dtype=np.int32), row_len, draw(st.integers(1, 70)), draw(st.integers(0, 9))


def list_samples(plan: PackingPlan) -> tuple[np.ndarray, np.ndarray]:
    """Return samples row by row, in their order inside a row, and [rows + 1] where each row starts among them."""
    order = np.argsort(plan.row_of, kind="stable")[len(plan.too_long) :]
    counts = np.bincount(plan.row_of[order], minlength=plan.num_rows)
    return order, np.concatenate([[0], np.cumsum(counts)])


def pack_best_fit(lengths: list[int], row_len: int) -> list[int]:
    """Best-fit-decreasing as the textbook has it; returns the tokens of the rows."""
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, space in enumerate(free) if space >= length]
        if not fitting:
            fitting = [len(free)]
            free.append(row_len)
        free[min(fitting, key=lambda row: free[row])] -= length
    return [row_len - space for space in free]


def pack_first_fit(lengths: list[int], row_len: int) -> int:
    free: list[int] = []
    for length in sorted(lengths, reverse=True):
        row = next((row for row, space in enumerate(free) if space >= length), len(free))
        if row == len(free):
            free.append(row_len)
        free[row] -= length
    return len(free)


def draw_lengths(num_samples: int, mean: float, sigma: float, seed: int = 0) -> np.ndarray:
    """Comments with their answers: log-normal lengths of 8 to 1,500 tokens."""
    values = np.random.default_rng(seed).lognormal(np.log(mean) - sigma**2 / 2, sigma, num_samples)
    return np.clip(values, 8, 1500).astype(np.int32)


@given(samples())
def test_every_sample_is_in_one_row_or_named_as_too_long_and_no_row_overflows(drawn) -> None:
    lengths, row_len, window, seed = drawn
    plan = plan_packing(lengths, row_len, window=window, seed=seed)
    assert plan.too_long.tolist() == [i for i, length in enumerate(lengths) if length > row_len]
    assert np.array_equal(plan.row_of == -1, lengths > row_len)
    packed = plan.row_of >= 0
    loads = np.bincount(plan.row_of[packed], weights=lengths[packed], minlength=plan.num_rows)
    assert len(loads) == plan.num_rows
    assert all(0 < load <= row_len for load in loads)
    assert loads.sum() == plan.num_tokens
    assert plan.efficiency == (plan.num_tokens / (plan.num_rows * row_len) if plan.num_rows else 0)


@given(samples())
def test_a_window_is_packed_like_the_textbook_packs_it(drawn) -> None:
    lengths, row_len, _, _ = drawn
    lengths = lengths[lengths <= row_len]
    row_of, num_rows = pack_window(lengths, row_len)
    expected = pack_best_fit(lengths.tolist(), row_len)
    assert num_rows == len(expected)
    assert sorted(np.bincount(row_of, weights=lengths, minlength=num_rows)) == sorted(expected)


@given(samples())
def test_rows_are_listed_with_each_packed_sample_once_in_training_order(drawn) -> None:
    lengths, row_len, window, seed = drawn
    plan = plan_packing(lengths, row_len, window=window, seed=seed)
    order, starts = list_samples(plan)
    assert sorted([*order.tolist(), *plan.too_long.tolist()]) == list(range(len(lengths)))
    for row in range(plan.num_rows):
        members = order[starts[row] : starts[row + 1]]
        assert members.tolist() == np.flatnonzero(plan.row_of == row).tolist()


@given(samples())
def test_rows_of_a_later_window_come_later(drawn) -> None:
    lengths, row_len, window, seed = drawn
    plan = plan_packing(lengths, row_len, window=window, seed=seed)
    last = -1
    for start in range(0, len(lengths), window):
        rows = plan.row_of[start : start + window]
        rows = rows[rows >= 0]
        if rows.size:
            assert rows.min() == last + 1
            last = int(rows.max())


@given(samples())
def test_the_same_seed_gives_the_same_rows_and_another_seed_only_other_numbers(drawn) -> None:
    lengths, row_len, window, seed = drawn
    plans = [plan_packing(lengths, row_len, window=window, seed=s) for s in (seed, seed, seed + 1)]
    assert np.array_equal(plans[0].row_of, plans[1].row_of)
    members = [{tuple(np.flatnonzero(plan.row_of == row)) for row in range(plan.num_rows)} for plan in plans]
    assert members[0] == members[2]


@pytest.mark.parametrize("row_len", [2048, 4096])
@pytest.mark.parametrize("mean", [180, 250])
@pytest.mark.parametrize("sigma", [0.4, 0.6, 0.9])
def test_rows_of_realistic_samples_are_at_least_97_percent_full(row_len: int, mean: int, sigma: float) -> None:
    plan = plan_packing(draw_lengths(14_511, mean, sigma), row_len)
    assert plan.efficiency >= 0.99
    assert plan_packing(draw_lengths(861, mean, sigma), row_len).efficiency >= 0.97
    assert not plan.too_long.size


@pytest.mark.parametrize("row_len", [2048, 4096])
def test_it_needs_no_more_rows_than_first_fit_decreasing(row_len: int) -> None:
    for seed in range(5):
        lengths = draw_lengths(3000, 215, 0.6, seed)
        assert plan_packing(lengths, row_len).num_rows <= pack_first_fit(lengths.tolist(), row_len)


def test_lengths_do_not_go_up_and_down_with_time() -> None:
    lengths = draw_lengths(60_000, 215, 0.6)
    plan = plan_packing(lengths, 2048)
    order, starts = list_samples(plan)
    longest = np.maximum.reduceat(lengths[order], starts[:-1])
    unshuffled, count = pack_window(lengths[:16_384], 2048)
    falling = np.zeros(count, dtype=np.int32)
    np.maximum.at(falling, unshuffled, lengths[:16_384])
    assert np.corrcoef(np.arange(count), falling)[0, 1] < -0.8
    assert abs(np.corrcoef(np.arange(plan.num_rows), longest)[0, 1]) < 5 / plan.num_rows**0.5


def test_four_rows_hold_eight_samples_and_the_ninth_is_left_out() -> None:
    plan = plan_packing(np.array([70, 30, 50, 50, 20, 101, 10, 100, 1]), 100, seed=3)
    assert (plan.num_rows, plan.num_tokens, plan.too_long.tolist()) == (4, 331, [5])
    assert plan.to_json() == {"rows": 4, "efficiency": 331 / 400, "too_long": 1}
    assert plan.row_of[5] == -1
    assert plan.row_of[0] == plan.row_of[1]
    assert plan.row_of[2] == plan.row_of[3]


def test_nothing_to_pack_gives_no_rows() -> None:
    for lengths in (np.empty(0, dtype=np.int32), np.array([9, 9])):
        plan = plan_packing(lengths, 8)
        assert (plan.num_rows, plan.efficiency, len(plan.too_long)) == (0, 0.0, len(lengths))


@pytest.mark.parametrize(("lengths", "row_len", "window"), [([4, 0], 8, 4), ([4, -1], 8, 4), ([4], 0, 4), ([4], 8, 0)])
def test_lengths_rows_and_windows_below_one_are_refused(lengths: list[int], row_len: int, window: int) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        plan_packing(np.array(lengths), row_len, window=window)


def test_a_window_with_a_sample_that_no_row_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="samples have 4 to 9 tokens, a row holds 1 to 8"):
        pack_window(np.array([4, 9]), 8)
