"""Bootstrap intervals: of the right width, the same for everybody who asks, and made without N x B arrays."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.intervals import Bootstrap, draw_weights
from evaluation.suites.voc.label_scores import (
    AVERAGES,
    count_labels,
    count_levels,
    pair_labels,
    score_hierarchy,
    score_labels,
)
from evaluation.suites.voc.resampling import bootstrap_levels, bootstrap_scores, compare_f1, iterate_sums, resample_sums
from tests.unit.evaluation import voc_brute_force as brute

A, B, C = ("x", "a", "a", "a"), ("x", "a", "a", "b"), ("y", "c", "c", "c")
LABELS = [A, B, C, ("y", "c", "d", "d")]
MANY, FEW = Bootstrap(400, 0.95, 0), Bootstrap(50, 0.95, 0)


def _many(seed, n, skill):
    generator = np.random.default_rng(seed)
    gold = [{LABELS[generator.integers(4)]} for _ in range(n)]
    predicted = [g if generator.random() < skill else {LABELS[generator.integers(4)]} for g in gold]
    return predicted, gold


def test_bootstrap_interval_holds_the_figure_and_narrows_with_more_comments():
    widths = []
    for n in (50, 800):
        counts = count_labels(*_many(0, n, 0.6))
        low, high = bootstrap_scores(counts, MANY)["micro"]["f1"]
        assert low < score_labels(counts)["micro"][0, 2] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_paired_f1_difference_is_narrower_than_two_separate_intervals():
    predicted, gold = _many(1, 300, 0.6)
    better = [g if i % 12 == 0 else p for i, (p, g) in enumerate(zip(predicted, gold, strict=True))]
    candidate, reference = count_labels(better, gold), count_labels(predicted, gold)
    difference = compare_f1(candidate, reference, "micro", MANY)
    assert 0 < difference.low < difference.value < difference.high
    apart = bootstrap_scores(candidate, MANY)["micro"]["f1"]
    assert difference.high - difference.low < (apart[1] - apart[0]) / 1.5


@pytest.mark.parametrize("average", AVERAGES)
def test_a_model_against_itself_differs_by_exactly_nothing(average):
    counts = count_labels(*_many(2, 40, 0.5))
    difference = compare_f1(counts, counts, average, FEW)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_unpaired_comments_are_refused():
    with pytest.raises(ValueError, match="paired comments"):
        compare_f1(
            count_labels([{A}], [{A}]),
            count_labels([{A}] * 2, [{A}] * 2),
            "micro",
            FEW,
        )


@pytest.mark.parametrize("chunk", [1, 7, 50, 999])
def test_resamples_are_the_same_for_any_chunk(chunk):
    counts = count_labels(*_many(3, 60, 0.5))
    whole = next(iterate_sums([counts], FEW, 50))[0]
    parts = [sums for (sums,) in iterate_sums([counts], FEW, chunk)]
    assert np.array_equal(np.concatenate([p.outcomes for p in parts]), whole.outcomes)
    assert np.array_equal(np.concatenate([p.samples for p in parts]), whole.samples)


def test_a_resample_is_the_comments_that_were_drawn():
    predicted, gold = _many(4, 40, 0.5)
    counts = count_labels(predicted, gold)
    (sums,) = next(iterate_sums([counts], FEW, 50))
    for row, weights in zip(range(50), draw_weights(40, 50, 0), strict=True):
        drawn = np.repeat(np.arange(40), weights.astype(int))
        scores = score_labels(count_labels([predicted[i] for i in drawn], [gold[i] for i in drawn]))
        micro = score_labels(counts, weights[None])["micro"][0]
        assert micro == pytest.approx(scores["micro"][0])
        assert sums.totals[row][0] == pytest.approx(sum(len(predicted[i] & gold[i]) for i in drawn))


def test_intervals_of_levels_groups_and_tree_hold_their_figures():
    predicted, gold = _many(5, 300, 0.6)
    levels = count_levels(predicted, gold)
    ends = bootstrap_levels(levels, {"some": np.array([0, 2]), "none": np.array([], dtype=int)}, MANY)
    for name, counts in levels.items():
        for average in AVERAGES:
            low, high = ends["levels"][name][average]["f1"]
            assert low <= score_labels(counts)[average][0, 2] <= high
    assert ends["levels"]["L4"] == bootstrap_scores(levels["L4"], MANY)
    low, high = ends["hierarchical"]["f1"]
    assert (
        low
        < score_hierarchy([next(iterate_sums([c], Bootstrap(1, 0.9, 1)))[0] for c in levels.values()])[0, 2]
        < high + 0.1
    )
    assert ends["groups"]["none"]["f1"] == [0, 0]
    assert 0 < ends["groups"]["some"]["f1"][0] < ends["groups"]["some"]["f1"][1] < 1


label_sets = st.lists(
    st.tuples(st.sets(st.sampled_from([*LABELS, ("new",) * 4])), st.sets(st.sampled_from(LABELS))),
    min_size=1,
    max_size=9,
)


@given(label_sets, st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_intervals_equal_scoring_the_drawn_comments_with_plain_loops(pairs, seed):
    predicted, gold = [p for p, _ in pairs], [g for _, g in pairs]
    ends = bootstrap_levels(count_levels(predicted, gold), {}, Bootstrap(12, 0.8, seed))
    drawn = [
        [i for i, times in enumerate(weights.astype(int).tolist()) for _ in range(times)]
        for weights in draw_weights(len(pairs), 12, seed)
    ]
    sides = [([predicted[i] for i in rows], [gold[i] for i in rows]) for rows in drawn]

    def check(values, found):
        low, high = np.quantile(np.array(values), [0.1, 0.9], axis=0)
        assert [found[name] for name in ("precision", "recall", "f1")] == [
            pytest.approx(e) for e in zip(low, high, strict=True)
        ]

    for depth, level in enumerate(brute.LEVELS, start=1):
        scores = [brute.all_averages(*side, depth) for side in sides]
        for average in AVERAGES:
            check([score[average] for score in scores], ends["levels"][level][average])
    check([brute.hierarchical(*side) for side in sides], ends["hierarchical"])


def test_sums_of_a_table_follow_the_draws():
    table = np.arange(12.0).reshape(6, 2)
    expected = [w @ table for w in draw_weights(6, 50, 0)]
    assert np.array_equal(resample_sums(table, FEW), expected)


def test_memory_does_not_grow_with_the_number_of_resamples():
    counts = count_labels(*_many(6, 20_000, 0.6))
    tracemalloc.start()
    bootstrap_scores(counts, Bootstrap(300, 0.95, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 20_000 * 8 / 10


def test_a_label_given_twice_counts_once():
    pairs = pair_labels([[A, A, B]], [[A, A]])
    assert pairs.paths == (A, B)
    assert score_labels(count_labels([[A, A, B]], [[A, A]]))["micro"][0] == pytest.approx([1 / 2, 1, 2 / 3])
