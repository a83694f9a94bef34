import pytest

from evaluation.intervals import Bootstrap
from evaluation.suites.lm_eval.results import is_mergeable, measure_task, summarise_values

BOOTSTRAP = Bootstrap(100, 0.95, 0)


def line(number, task="t", **metrics):
    return {"custom_id": f"{task}-{number:06d}", "task": task, "filters": {"none": {"metrics": metrics}}}


def test_shares_numbers_and_lists_are_merged_by_their_own_mean():
    lines = [line(0, a=1.0, b=0.5, c=[True, False]), line(1, a=0.0, b=1.5, c=[True])]
    aggregation = {"t": {"a": "mean", "b": "mean", "c": "agg_inst_level_acc"}}
    figures = measure_task(lines, lines, aggregation, None, BOOTSTRAP)["t"]
    assert figures["a,none"]["value"] == 0.5
    assert figures["b,none"]["value"] == 1.0
    assert figures["c,none"]["value"] == pytest.approx(2 / 3)
    assert "against_base" in figures["a,none"]
    assert "against_base" not in figures["b,none"]


def test_a_change_against_the_base_is_paired_by_question():
    mine, base = [line(0, a=1), line(1, a=1), line(2, a=0)], [line(2, a=1), line(1, a=1), line(0, a=0)]
    change = measure_task(mine, base, {"t": {"a": "mean"}}, None, BOOTSTRAP)["t"]["a,none"]["against_base"]
    assert (change["value"], change["gained"], change["lost"]) == (0, 1, 1)


def test_a_corpus_measure_is_taken_over_from_one_piece_and_missing_from_several():
    lines = [line(0, bleu=["a", "b"]), line(1, bleu=["c", "d"])]
    aggregation = {"t": {"bleu": "bleu"}}
    one = measure_task(lines, lines, aggregation, {"t": {"bleu,none": 31.5}}, BOOTSTRAP)["t"]["bleu,none"]
    assert one == {"value": 31.5, "n": 2}
    several = measure_task(lines, lines, aggregation, None, BOOTSTRAP)["t"]["bleu,none"]
    assert several["value"] is None
    assert "set shards to 1" in several["reason"]


def test_only_means_and_lists_of_truths_are_merged():
    assert is_mergeable([1, 0.5], {"mean"})
    assert is_mergeable([[True], [False, True]], {"anything"})
    assert not is_mergeable([1, 0.5], {"median"})
    assert not is_mergeable([(1, 2)], {"mean"})


def test_entries_of_one_prompt_are_drawn_together():
    """Ten entries that stand or fall together say no more than one."""
    together = summarise_values([[True] * 10, [False] * 10] * 10, BOOTSTRAP)
    apart = summarise_values([[True], [False]] * 100, BOOTSTRAP)
    assert together["value"] == apart["value"] == 0.5
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])
    assert summarise_values([[]], BOOTSTRAP) == {"value": None, "n": 0}
