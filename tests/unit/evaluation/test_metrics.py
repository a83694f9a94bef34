"""Label scores against hand-computed cases, scikit-learn and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from evaluation.metrics import (
    AVERAGES,
    bootstrap_scores,
    compare_f1,
    count_labels,
    cut_paths,
    score_hierarchy,
    score_labels,
    score_level,
)

A, B, C = ("x", "a", "a", "a"), ("x", "a", "a", "b"), ("y", "c", "c", "c")
INVENTED = ("z", "z", "z", "z")
LABELS = [A, B, C, ("y", "c", "d", "d"), INVENTED]

GOLD = [{A, B}, {A}, {C}]
PREDICTED = [{A}, {A, C}, set()]


def test_hand_computed_case_gives_all_four_averages():
    scores = {name: values[0] for name, values in score_labels(count_labels(PREDICTED, GOLD)).items()}
    # micro: tp 2 (A, A), predicted 3, gold 4. Labels: A p=r=f=1 (support 2), B 0 (1), C 0 (1).
    # samples: comment 1 p=1 r=1/2 f=2/3; comment 2 p=1/2 r=1 f=2/3; comment 3 all 0.
    assert scores["micro"] == pytest.approx([2 / 3, 2 / 4, 4 / 7])
    assert scores["macro"] == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert scores["weighted"] == pytest.approx([2 / 4, 2 / 4, 2 / 4])
    assert scores["samples"] == pytest.approx([1.5 / 3, 1.5 / 3, (4 / 3) / 3])


def test_macro_f1_is_the_mean_of_label_f1_and_not_the_harmonic_mean():
    macro = score_labels(count_labels([{A}, {A, B}], [{A}, {B}]))["macro"][0]
    # A: p 1/2, r 1, f 2/3. B: p 1, r 1, f 1.
    assert macro == pytest.approx([3 / 4, 1, 5 / 6])
    assert macro[2] != pytest.approx(2 * macro[0] * macro[1] / (macro[0] + macro[1]))


def test_a_comment_without_gold_labels_is_right_only_if_nothing_is_predicted():
    samples = score_labels(count_labels([set(), {A}], [set(), set()]))["samples"][0]
    assert samples == pytest.approx([0.5, 0.5, 0.5])


def test_an_invented_label_is_a_wrong_prediction_but_no_label_of_its_own():
    counts = count_labels([{A, INVENTED}], [{A}])
    assert counts.labels == (A,)
    assert score_labels(counts)["micro"][0] == pytest.approx([1 / 2, 1, 2 / 3])
    assert score_labels(counts)["macro"][0] == pytest.approx([1, 1, 1])


def test_levels_compare_prefixes():
    predicted, gold = [{B}], [{A}]
    f1 = [score_labels(count_labels(predicted, gold, depth))["micro"][0, 2] for depth in (1, 2, 3, 4)]
    assert f1 == [1, 1, 1, 0]
    assert cut_paths({A, B, C}, 1) == {("x",), ("y",)}


def test_level_reports_labels_and_occurrences():
    level = score_level(count_labels(PREDICTED, GOLD))
    assert (level["num_labels"], level["gold"]) == (3, 4)
    assert level["micro"]["f1"] == pytest.approx(4 / 7)


def test_hierarchical_score_credits_shared_ancestors():
    # predicted B: x, x/a, x/a/a, B; gold A: x, x/a, x/a/a, A. Three of four nodes are shared.
    assert score_hierarchy([{B}], [{A}]) == pytest.approx([3 / 4, 3 / 4, 3 / 4])
    # A and B in gold have 5 nodes, A predicted has 4.
    assert score_hierarchy([{A}], [{A, B}]) == pytest.approx([1, 4 / 5, 8 / 9])


def test_no_predictions_at_all_score_zero_without_a_warning(recwarn):
    for values in score_labels(count_labels([set(), set()], [{A}, {B}])).values():
        assert values[0].tolist() == [0, 0, 0]
    assert not recwarn.list


label_sets = st.lists(
    st.tuples(st.sets(st.sampled_from(LABELS)), st.sets(st.sampled_from(LABELS[:-1]))), min_size=1, max_size=12
)


@given(label_sets)
@settings(max_examples=100, deadline=None)
def test_all_averages_equal_scikit_learn(pairs):
    predicted, gold = [p for p, _ in pairs], [g for _, g in pairs]
    ours = score_labels(count_labels(predicted, gold))
    binarizer = MultiLabelBinarizer(classes=LABELS).fit([])
    y_true, y_pred = binarizer.transform(gold), binarizer.transform(predicted)
    supported = [i for i in range(len(LABELS)) if y_true[:, i].any()]
    both_empty = np.mean([not p and not g for p, g in pairs])  # scikit-learn scores these 0, we score them 1
    for average in AVERAGES:
        labels = supported if average == "macro" else None
        if average == "macro" and not supported:
            continue
        theirs = precision_recall_fscore_support(y_true, y_pred, average=average, labels=labels, zero_division=0)
        extra = both_empty if average == "samples" else 0
        assert ours[average][0] == pytest.approx(np.array(theirs[:3], dtype=float) + extra), average


@given(label_sets, st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_weighting_a_comment_twice_equals_repeating_it(pairs, seed):
    weights = np.random.default_rng(seed).integers(0, 3, size=len(pairs))
    repeated = [pair for pair, times in zip(pairs, weights, strict=True) for _ in range(times)]
    weighted = score_labels(count_labels([p for p, _ in pairs], [g for _, g in pairs]), weights[None].astype(float))
    if not repeated:
        return
    plain = score_labels(count_labels([p for p, _ in repeated], [g for _, g in repeated]))
    for average in AVERAGES:
        assert weighted[average][0] == pytest.approx(plain[average][0])


def _many(seed, n, skill):
    generator = np.random.default_rng(seed)
    gold = [{LABELS[generator.integers(4)]} for _ in range(n)]
    predicted = [g if generator.random() < skill else {LABELS[generator.integers(4)]} for g in gold]
    return predicted, gold


def test_bootstrap_interval_holds_the_figure_and_narrows_with_more_comments():
    widths = []
    for n in (50, 800):
        counts = count_labels(*_many(0, n, 0.6))
        low, high = bootstrap_scores(counts, num_resamples=400, confidence=0.95, seed=0)["micro"]["f1"]
        assert low < score_labels(counts)["micro"][0, 2] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_paired_f1_difference_is_narrower_than_two_separate_intervals():
    predicted, gold = _many(1, 300, 0.6)
    better = [g if i % 12 == 0 else p for i, (p, g) in enumerate(zip(predicted, gold, strict=True))]
    candidate, reference = count_labels(better, gold), count_labels(predicted, gold)
    difference = compare_f1(candidate, reference, "micro", num_resamples=400, confidence=0.95, seed=0)
    assert 0 < difference.low < difference.value < difference.high
    apart = bootstrap_scores(candidate, num_resamples=400, confidence=0.95, seed=0)["micro"]["f1"]
    assert difference.high - difference.low < (apart[1] - apart[0]) / 1.5


@pytest.mark.parametrize("average", AVERAGES)
def test_a_model_against_itself_differs_by_exactly_nothing(average):
    counts = count_labels(*_many(2, 40, 0.5))
    difference = compare_f1(counts, counts, average, num_resamples=50, confidence=0.95, seed=0)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_unpaired_comments_are_refused():
    with pytest.raises(ValueError, match="paired comments"):
        compare_f1(
            count_labels([{A}], [{A}]),
            count_labels([{A}] * 2, [{A}] * 2),
            "micro",
            num_resamples=1,
            confidence=0.9,
            seed=0,
        )
    with pytest.raises(ValueError, match="zip"):
        count_labels([{A}], [{A}, {B}])
