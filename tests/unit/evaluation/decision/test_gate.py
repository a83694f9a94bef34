"""Intervals against thresholds."""

import pytest

from evaluation.answers import GENERATIVE, LOG_LIKELIHOOD, VOC
from evaluation.decision.gate import Check, check_general_change, check_share, check_voc_gain, conclude, judge
from evaluation.intervals import Interval
from evaluation.items import Items
from voc.config.night import DecisionConfig

A = ("a", "a", "a", "a")


@pytest.mark.parametrize(
    ("low", "high", "rule", "outcome"),
    [
        (0.01, 0.02, ">", "pass"),
        (0.0, 0.02, ">", "open"),
        (-0.02, 0.0, ">", "fail"),
        (0.0, 0.02, ">=", "pass"),
        (-0.01, 0.02, ">=", "open"),
        (-0.02, -0.01, ">=", "fail"),
        (-0.02, 0.0, "<=", "pass"),
        (-0.02, 0.01, "<=", "open"),
        (0.01, 0.02, "<=", "fail"),
    ],
)
def test_an_interval_on_both_sides_of_the_threshold_is_open(low, high, rule, outcome):
    assert judge(Interval(low, high), 0.0, rule) == outcome


def _check(outcome, binding=True):
    return Check("name", outcome, binding, 0.1, 0.0, 0.2, 0.0, ">", 10)


def test_one_failure_is_no_go_and_one_open_check_is_inconclusive():
    assert conclude([_check("pass"), _check("open"), _check("fail")]) == "NO-GO"
    assert conclude([_check("pass"), _check("open")]) == "INCONCLUSIVE"
    assert conclude([_check("pass"), _check("fail", binding=False)]) == "GO"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("pass", "PASS: change"),
        ("fail", "FAIL: change"),
        ("open", "UNDECIDED: the interval contains the limit, change"),
    ],
)
def test_the_reason_names_outcome_value_interval_limit_and_items(outcome, words):
    assert _check(outcome).reason == f"name: {words} +0.100 [+0.000, +0.200], limit +0.000 (n 10)"


def test_a_limit_with_more_decimals_is_shown_with_all_of_them():
    share = Check("leaks", "pass", True, 0.0, 0.0, 0.001, 0.0025, "<=", 9)
    assert share.reason == "leaks: PASS: share 0.000 [0.000, 0.001], limit 0.0025 (n 9)"


def _items(right, correct):
    n = len(right)
    return Items(
        ids={VOC: [str(i) for i in range(n)], LOG_LIKELIHOOD: [], GENERATIVE: []},
        gold=[frozenset({A})] * n,
        predicted=[frozenset({A}) if r else frozenset() for r in right],
        correct={LOG_LIKELIHOOD: correct, GENERATIVE: correct},
    )


def test_voc_gain_is_checked_in_the_configured_average():
    better, worse = _items([True] * 60, []), _items([True] * 30 + [False] * 30, [])
    config = DecisionConfig(voc_average="samples", min_voc_gain=0.2)
    check = check_voc_gain(better, "base", worse, config, num_resamples=200, confidence=0.95, seed=0)
    assert (check.name, check.outcome, check.value) == ("VOC samples F1 gain over base", "pass", pytest.approx(0.5))
    same = check_voc_gain(better, "base", better, config, num_resamples=200, confidence=0.95, seed=0)
    assert same.outcome == "fail"


def test_a_drop_is_allowed_up_to_the_limit_and_the_interval_must_be_inside_it():
    reference = _items([], [True] * 400)
    config = DecisionConfig(max_general_drop=0.05)

    def outcome(wrong):
        candidate = _items([], [False] * wrong + [True] * (400 - wrong))
        return check_general_change(
            candidate, "base", reference, GENERATIVE, config, confidence=0.95, binding=True
        ).outcome

    assert [outcome(0), outcome(4), outcome(16), outcome(60)] == ["pass", "pass", "open", "fail"]


def test_a_share_needs_enough_items_to_be_called_small():
    def outcome(count, n):
        return check_share("schema leaks", {"count": count, "n": n}, 0.02, confidence=0.95).outcome

    assert [outcome(0, 20), outcome(0, 500), outcome(60, 500)] == ["open", "pass", "fail"]
