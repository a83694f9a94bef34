from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpus.mixing.draw import MAX_SWAPS, find_swaps

LENGTHS = st.lists(st.integers(0, 60), max_size=15).map(lambda values: np.array(values, dtype=np.int64))


@given(LENGTHS, LENGTHS, st.integers(-150, 150))
def test_swapped_rows_are_different_and_change_the_sum_by_what_was_wanted_less_the_remainder(
    drawn: np.ndarray, undrawn: np.ndarray, wanted: int
) -> None:
    found = find_swaps(drawn, undrawn, wanted)
    ours, theirs = [pair[0] for pair in found.pairs], [pair[1] for pair in found.pairs]
    assert len(set(ours)) == len(ours) == len(set(theirs)) <= MAX_SWAPS
    assert sum(undrawn[theirs]) - sum(drawn[ours]) == wanted - found.remainder
    assert abs(found.remainder) <= abs(wanted)
    assert found == find_swaps(drawn, undrawn, wanted)


@given(LENGTHS, LENGTHS, st.integers(-150, 150))
def test_one_swap_is_found_wherever_one_is_enough(drawn: np.ndarray, undrawn: np.ndarray, wanted: int) -> None:
    is_enough = wanted in np.subtract.outer(undrawn, drawn)
    found = find_swaps(drawn, undrawn, wanted)
    if is_enough or wanted == 0:
        assert found.remainder == 0
        assert len(found.pairs) == (wanted != 0)


@given(st.integers(2, 30), st.integers(-60, 60))
def test_lengths_without_gaps_give_any_small_sum(longest: int, wanted: int) -> None:
    every = np.repeat(np.arange(1, longest + 1), 60)
    assert find_swaps(every, every, wanted).remainder == 0 or abs(wanted) > MAX_SWAPS * (longest - 1)


def test_two_swaps_are_made_where_one_is_not_enough() -> None:
    found = find_swaps(np.array([10, 20]), np.array([13, 24]), 7)
    assert (found.remainder, sorted(found.pairs)) == (0, [(0, 0), (1, 1)])


def test_what_the_rows_do_not_permit_remains() -> None:
    tens, more = np.full(8, 10), np.full(8, 20)
    assert find_swaps(tens, more, 34).remainder == 4
    assert find_swaps(tens, tens, 7) == find_swaps(tens, np.empty(0, dtype=np.int64), 7)
    assert find_swaps(tens, tens, 7).remainder == 7
