"""Intervals against thresholds."""

import pytest

from evaluation.decision.gate import Check, check_change, check_share, conclude, judge
from evaluation.intervals import Bootstrap, Interval
from evaluation.items import Items
from evaluation.suites.protocol import Value
from evaluation.suites.registry import find_suite, list_gates
from tests.unit.evaluation.conftest import config_tree
from voc.config.file import check_config

VOC, LOG_LIKELIHOOD, GENERATIVE = "voc", "mmlu_log_likelihood", "mmlu_generative"
BOOTSTRAP = Bootstrap(200, 0.95, 0)
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


def _compare(config, suite, items, other):
    gate = next(gate for gate in list_gates(config) if gate.suite == suite and gate.against)
    difference = find_suite(config, suite).compare(suite, gate.metric, items, other, BOOTSTRAP)
    return check_change(gate, "base", difference, binding=True)


def test_voc_gain_is_checked_in_the_configured_average(tmp_path):
    better, worse = _items([True] * 60, []), _items([True] * 30 + [False] * 30, [])
    config = check_config(config_tree(tmp_path, decision__voc_average="samples", decision__min_voc_gain=0.2), "test")
    check = _compare(config, VOC, better, worse)
    assert (check.name, check.outcome, check.value) == ("VOC samples F1 gain over base", "pass", pytest.approx(0.5))
    assert _compare(config, VOC, better, better).outcome == "fail"


def test_a_drop_is_allowed_up_to_the_limit_and_the_interval_must_be_inside_it(tmp_path):
    reference = _items([], [True] * 400)
    config = check_config(config_tree(tmp_path, decision__max_general_drop=0.05), "test")

    def outcome(wrong):
        candidate = _items([], [False] * wrong + [True] * (400 - wrong))
        return _compare(config, GENERATIVE, candidate, reference).outcome

    assert [outcome(0), outcome(4), outcome(16), outcome(60)] == ["pass", "pass", "open", "fail"]


def test_a_share_needs_enough_items_to_be_called_small():
    def outcome(count, n):
        return check_share("schema leaks", Value(count / n, n, count), 0.02, confidence=0.95).outcome

    assert [outcome(0, 20), outcome(0, 500), outcome(60, 500)] == ["open", "pass", "fail"]
