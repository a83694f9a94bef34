"""Label scores against hand-computed cases, scikit-learn and plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from evaluation.suites.voc.label_scores import (
    AVERAGES,
    count_labels,
    count_levels,
    list_label_scores,
    score_hierarchy,
    score_labels,
    score_level,
    sum_labels,
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
    assert score_level(counts)["num_labels"] == 1
    assert score_labels(counts)["micro"][0] == pytest.approx([1 / 2, 1, 2 / 3])
    assert score_labels(counts)["macro"][0] == pytest.approx([1, 1, 1])


def test_levels_compare_prefixes():
    predicted, gold = [{B}], [{A}]
    f1 = [score_labels(count_labels(predicted, gold, depth))["micro"][0, 2] for depth in (1, 2, 3, 4)]
    assert f1 == [1, 1, 1, 0]


def test_level_reports_labels_and_occurrences():
    level = score_level(count_labels(PREDICTED, GOLD))
    assert (level["num_labels"], level["gold"]) == (3, 4)
    assert level["micro"]["f1"] == pytest.approx(4 / 7)


def score_tree(predicted, gold):
    return score_hierarchy(sum_labels(counts) for counts in count_levels(predicted, gold).values())[0]


def test_hierarchical_score_credits_shared_ancestors():
    # predicted B: x, x/a, x/a/a, B; gold A: x, x/a, x/a/a, A. Three of four nodes are shared.
    assert score_tree([{B}], [{A}]) == pytest.approx([3 / 4, 3 / 4, 3 / 4])
    # A and B in gold have 5 nodes, A predicted has 4.
    assert score_tree([{A}], [{A, B}]) == pytest.approx([1, 4 / 5, 8 / 9])


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


def test_every_label_that_occurs_has_a_row_with_its_support():
    rows = list_label_scores(
        count_labels([{A, INVENTED}, {A}, set()], [{A}, {B}, {B}]), {A: 7, C: 9}, {A: "head", B: "tail"}
    )
    assert [(row["label"], row["support"], row["predicted"], row["true_positive"]) for row in rows] == [
        (list(B), 2, 0, 0),
        (list(A), 1, 2, 1),
        (list(INVENTED), 0, 1, 0),
    ]
    assert [(row["precision"], row["recall"]) for row in rows] == [(None, 0), (1 / 2, 1), (0, None)]
    assert [row["f1"] for row in rows] == pytest.approx([0, 2 / 3, 0])
    assert [(row["training_support"], row["bucket"]) for row in rows] == [(0, "tail"), (7, "head"), (0, "invented")]


def test_predictions_for_other_comments_are_refused():
    with pytest.raises(ValueError, match="predictions for 1 comments and gold labels for 2"):
        count_labels([{A}], [{A}, {B}])
