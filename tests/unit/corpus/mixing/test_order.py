from __future__ import annotations

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.mixing.order import MAX_DOMAIN, TrainingOrder, derive_key, locate_draws, permute
from voc.errors import MixtureError
from voc.mixture import MixturePlan, StratumShare, parse_mixture

KEYS = st.integers(0, 2**64 - 1)


@st.composite
def plans(draw) -> MixturePlan:
    shares = []
    for name in "abc"[: draw(st.integers(1, 3))]:
        num_rows, num_samples = draw(st.integers(1, 40)), draw(st.integers(0, 120))
        partial = num_samples % num_rows
        num_swaps = draw(st.integers(0, min(3, partial, num_rows - partial)))
        drawn = draw(st.permutations(range(partial)))[:num_swaps]
        undrawn = draw(st.permutations(range(partial, num_rows)))[:num_swaps]
        category = draw(st.sampled_from([None, "x"]))
        swaps = tuple(zip(drawn, undrawn, strict=True))
        shares.append(StratumShare(name, category, 0.5, num_rows, num_samples, swaps=swaps))
    return MixturePlan("samples", sum(share.num_samples for share in shares), draw(st.integers(0, 9)), tuple(shares))


@given(st.integers(1, 3000), KEYS)
def test_every_size_is_permuted_without_loss(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


@given(st.integers(1, MAX_DOMAIN), KEYS, st.data())
def test_in_a_domain_of_any_size_different_indices_stay_different_and_inside(size: int, key: int, data) -> None:
    index = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=30, unique=True))
    permuted = permute(np.array(index), size, key)
    assert len(set(permuted.tolist())) == len(index)
    assert permuted.min() >= 0
    assert permuted.max() < size


@given(st.integers(1, MAX_DOMAIN), st.lists(KEYS, min_size=1, max_size=8), st.data())
def test_a_key_for_each_index_is_the_same_as_one_by_one(size: int, keys: list[int], data) -> None:
    index = [data.draw(st.integers(0, size - 1)) for _ in keys]
    together = permute(np.array(index), size, np.array(keys, dtype=np.uint64))
    assert together.tolist() == [int(permute([i], size, key)[0]) for i, key in zip(index, keys, strict=True)]


def test_the_permutation_is_the_same_on_every_machine() -> None:
    assert permute(np.arange(10), 10, 1).tolist() == [7, 4, 9, 3, 0, 8, 1, 2, 5, 6]
    assert permute([0, 1, MAX_DOMAIN - 1], MAX_DOMAIN, 2**64 - 1).tolist() == [584093548488, 797191293662, 225269263241]
    assert derive_key(3, "rows", "a", None) == 15197929418588834092


@pytest.mark.parametrize(("index", "size"), [([0], 0), ([0], MAX_DOMAIN + 1), ([5], 5), ([-1], 5)])
def test_what_is_outside_the_domain_is_refused(index: list[int], size: int) -> None:
    with pytest.raises(ValueError, match=r"a permutation of|are not all in"):
        permute(index, size, 0)


@pytest.mark.parametrize("size", [2, 3, 5, 10, 64])
def test_every_index_goes_everywhere_equally_often_over_keys(size: int) -> None:
    num_keys = 4000
    keys = np.array([derive_key(k) for k in range(num_keys)], dtype=np.uint64)
    for index in {0, size // 2, size - 1}:
        counts = np.bincount(permute(np.full(num_keys, index), size, keys), minlength=size)
        chi_square = float(((counts - num_keys / size) ** 2 / (num_keys / size)).sum())
        degrees = size - 1
        assert chi_square < degrees + 5 * (2 * degrees) ** 0.5 + 5


def test_all_orders_of_four_rows_occur() -> None:
    orders = Counter(tuple(permute(np.arange(4), 4, derive_key(k)).tolist()) for k in range(4800))
    assert len(orders) == 24
    assert max(orders.values()) < 1.5 * 4800 / 24


def test_neighbours_and_slices_of_a_large_order_look_random() -> None:
    size, cells = 200_000, 50
    permuted = permute(np.arange(size), size, 7)
    assert abs(np.corrcoef(np.arange(size), permuted)[0, 1]) < 0.01
    assert abs(np.corrcoef(permuted[:-1], permuted[1:])[0, 1]) < 0.01
    table = np.zeros((cells, cells))
    np.add.at(table, (np.arange(size) * cells // size, permuted * cells // size), 1)
    expected = size / cells**2
    chi_square = float(((table - expected) ** 2 / expected).sum())
    degrees = (cells - 1) ** 2
    assert abs(chi_square - degrees) < 5 * (2 * degrees) ** 0.5
    displaced = np.mod(permuted[1:] - permuted[:-1], size) * cells // size
    counts = np.bincount(displaced, minlength=cells)
    assert float(((counts - size / cells) ** 2 / (size / cells)).sum()) < cells + 5 * (2 * cells) ** 0.5


@given(plans())
def test_every_row_is_seen_exactly_as_often_as_the_plan_says(plan: MixturePlan) -> None:
    strata, rows = TrainingOrder(plan).locate(0, plan.num_samples)
    for index, share in enumerate(plan.shares):
        counts = np.bincount(rows[strata == index], minlength=share.num_rows)
        assert len(counts) == share.num_rows
        assert counts.sum() == share.num_samples
        assert counts.max() == share.max_repeats
        assert counts.max() - counts.min() <= 1
        assert np.count_nonzero(counts == 0) == share.unused_rows


@given(plans(), st.data())
def test_any_cut_into_slices_gives_the_same_order(plan: MixturePlan, data) -> None:
    order = TrainingOrder(plan)
    whole = np.stack(order.locate(0, len(order)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=6)))
    bounds = [0, *cuts, len(order)]
    parts = [np.stack(order.locate(a, b)) for a, b in itertools.pairwise(bounds)]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    again = TrainingOrder(parse_mixture(json.loads(json.dumps(plan.to_json()))))
    assert np.array_equal(np.stack(again.locate(0, len(again))), whole)


@given(plans())
def test_every_pass_is_a_permutation_of_its_own(plan: MixturePlan) -> None:
    for share in plan.shares:
        rows = locate_draws(share, plan.seed, np.arange(share.num_samples))
        for start in range(0, share.num_samples - share.num_rows + 1, share.num_rows):
            assert sorted(rows[start : start + share.num_rows]) == list(range(share.num_rows))


def test_passes_strata_and_seeds_have_different_orders() -> None:
    one, other = StratumShare("a", None, 0.5, 50, 100), StratumShare("a", "x", 0.5, 50, 50)
    orders = [
        locate_draws(one, 0, np.arange(50)),
        locate_draws(one, 0, np.arange(50, 100)),
        locate_draws(one, 1, np.arange(50)),
        locate_draws(other, 0, np.arange(50)),
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_strata_are_spread_evenly_over_the_run() -> None:
    shares = (StratumShare("a", None, 0.75, 1000, 75_000), StratumShare("b", None, 0.25, 90_000, 25_000))
    strata, _ = TrainingOrder(MixturePlan("samples", 100_000, 0, shares)).locate(0, 100_000)
    parts = strata.reshape(100, 1000).mean(axis=1)
    assert abs(parts - 0.25).max() < 5 * (0.25 * 0.75 / 1000) ** 0.5


def test_a_swap_takes_the_undrawn_row_in_place_of_the_drawn_one_in_the_last_pass_only() -> None:
    plain = StratumShare("a", None, 1.0, 10, 24)
    swapped = StratumShare("a", None, 1.0, 10, 24, swaps=((1, 8),))
    draws = np.arange(24)
    before, after = locate_draws(plain, 0, draws), locate_draws(swapped, 0, draws)
    assert np.flatnonzero(before != after).tolist() == [21]
    assert after[21] not in before[20:]


def test_an_order_far_longer_than_memory_can_be_read_anywhere() -> None:
    share = StratumShare("a", None, 1.0, 2**39, 2**40)
    order = TrainingOrder(MixturePlan("samples", 2**40, 0, (share,)))
    strata, rows = order.locate(2**40 - 3, 2**40)
    assert strata.tolist() == [0, 0, 0]
    assert len(set(rows.tolist())) == 3


def test_a_slice_outside_the_order_is_refused() -> None:
    order = TrainingOrder(MixturePlan("samples", 4, 0, (StratumShare("a", None, 1.0, 9, 4),)))
    assert [part.size for part in order.locate(4, 4)] == [0, 0]
    for start, stop in ((-1, 2), (0, 5), (3, 2)):
        with pytest.raises(ValueError, match="positions"):
            order.locate(start, stop)


@pytest.mark.parametrize("swaps", [((4, 8),), ((0, 3),), ((0, 10),), ((0, 8), (0, 9)), ((0, 8), (1, 8)), ((-1, 8),)])
def test_swaps_that_do_not_fit_the_plan_are_refused(swaps: tuple[tuple[int, int], ...]) -> None:
    share = StratumShare("a", None, 1.0, 10, 24, swaps=swaps)
    with pytest.raises(MixtureError, match=r"the plan of 'a' .*swaps"):
        TrainingOrder(MixturePlan("samples", 24, 0, (share,)))


def test_counts_that_do_not_sum_to_the_plan_are_refused() -> None:
    with pytest.raises(MixtureError, match=r"\[4\] samples"):
        TrainingOrder(MixturePlan("samples", 5, 0, (StratumShare("a", None, 1.0, 9, 4),)))
