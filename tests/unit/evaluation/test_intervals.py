"""Intervals and tests for compared figures."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.intervals import (
    bonferroni_confidence,
    bootstrap_mean,
    draw_weights,
    mcnemar_exact,
    paired_share_difference,
    percentile_interval,
    share_of,
    wilson_interval,
)


def test_wilson_interval_equals_the_published_example():
    # Newcombe 1998, Stat. Med. 17:857, table I, method 3: 81 of 263 is 0.2553 to 0.3662.
    interval = wilson_interval(81, 263, 0.95)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


def test_wilson_interval_of_nothing_and_of_all_is_not_empty():
    none, every = wilson_interval(0, 20, 0.95), wilson_interval(20, 20, 0.95)
    assert none.low == 0.0
    assert round(none.high, 4) == 0.1611
    assert (round(every.low, 4), every.high) == (0.8389, 1.0)


def test_wilson_interval_without_items_is_everything():
    interval = wilson_interval(0, 0, 0.95)
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize(("gained", "lost", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 22 / 1024)])
def test_mcnemar_exact_equals_the_binomial_by_hand(gained, lost, p):
    assert mcnemar_exact(gained, lost) == pytest.approx(p)


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_mcnemar_exact_equals_a_sum_over_all_outcomes(gained, lost):
    n, k = gained + lost, min(gained, lost)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert mcnemar_exact(gained, lost) == pytest.approx(min(1.0, 2 * tail))


def _pairs(both, gained, lost, neither):
    candidate = [True] * (both + gained) + [False] * (lost + neither)
    reference = [True] * both + [False] * gained + [True] * lost + [False] * neither
    return candidate, reference


def test_paired_difference_counts_gains_and_losses():
    difference = paired_share_difference(*_pairs(5, 3, 1, 1), 0.95)
    assert (difference.value, difference.n, difference.gained, difference.lost) == (pytest.approx(0.2), 10, 3, 1)
    assert difference.p_value == pytest.approx(2 * (1 + 4) / 16)


def test_paired_interval_keeps_its_width_without_discordant_pairs():
    difference = paired_share_difference(*_pairs(100, 0, 0, 0), 0.95)
    assert difference.value == 0
    assert -0.06 < difference.low < -0.02
    assert 0.02 < difference.high < 0.06


def test_paired_interval_mirrors_when_the_models_are_swapped():
    candidate, reference = _pairs(20, 12, 2, 16)
    ab, ba = paired_share_difference(candidate, reference, 0.95), paired_share_difference(reference, candidate, 0.95)
    assert (ab.low, ab.high) == (pytest.approx(-ba.high), pytest.approx(-ba.low))


def test_paired_interval_holds_its_confidence_over_all_outcomes_of_24_pairs():
    n, p = 24, (0.6, 0.2, 0.1, 0.1)
    covered = 0.0
    for both, gained, lost in itertools.product(range(n + 1), repeat=3):
        neither = n - both - gained - lost
        if neither < 0:
            continue
        counts = (both, gained, lost, neither)
        ways = math.factorial(n) / math.prod(math.factorial(c) for c in counts)
        interval = paired_share_difference(*_pairs(*counts), 0.95)
        if interval.low <= 0.1 <= interval.high:
            covered += ways * math.prod(q**c for q, c in zip(p, counts, strict=True))
    assert 0.94 <= covered <= 0.99


@pytest.mark.parametrize(("a", "b"), [([True], [True, False]), ([], [])])
def test_unpaired_or_absent_items_are_refused(a, b):
    with pytest.raises(ValueError, match="paired items are needed"):
        paired_share_difference(a, b, 0.95)


def test_every_resample_draws_as_many_items_as_there_are_and_the_seed_decides():
    weights = np.stack(list(draw_weights(7, 600, seed=3)))
    assert weights.shape == (600, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert np.array_equal(weights, list(draw_weights(7, 600, seed=3)))
    assert not np.array_equal(weights, list(draw_weights(7, 600, seed=4)))


def test_percentile_interval_cuts_both_tails():
    interval = percentile_interval(np.arange(101, dtype=float), 0.9)
    assert (interval.low, interval.high) == (pytest.approx(5), pytest.approx(95))


def test_bootstrap_of_a_mean_equals_resampling_the_items():
    values = np.array([-1.0] * 10 + [0.0] * 60 + [1.0] * 30)
    quick = bootstrap_mean(values, num_resamples=20_000, confidence=0.95, seed=1)
    plain = np.array([w @ values / 100 for w in draw_weights(100, 20_000, seed=2)])
    slow = percentile_interval(plain, 0.95)
    assert quick.low == pytest.approx(slow.low, abs=0.011)
    assert quick.high == pytest.approx(slow.high, abs=0.011)


def test_bonferroni_splits_the_error_over_the_comparisons():
    assert bonferroni_confidence(0.95, 2) == pytest.approx(0.975)
    assert bonferroni_confidence(0.95, 1) == pytest.approx(0.95)


def test_a_share_of_nothing_has_no_ratio():
    assert share_of(0, 0) == {"ratio": None, "count": 0, "n": 0}
    assert share_of(1, 4, 0.95)["ratio"] == 0.25
    assert set(share_of(1, 4, 0.95)) == {"ratio", "count", "n", "interval"}
