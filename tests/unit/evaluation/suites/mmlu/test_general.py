"""Two protocols on the same questions, and their difference."""

import pytest

from evaluation.suites.mmlu.general import GeneralAnswers, compare_general, measure_accuracy, measure_general
from voc.errors import CoverageError


def _samples(known, written, leak=(), scoring="echo"):
    log_likelihood = [
        {"correct": right, "subject": f"s{i % 2}", "slice": "replayed" if i < 2 else None, "scoring": scoring}
        for i, right in enumerate(known)
    ]
    generative = [
        {
            "answer": "A",
            "strict": "A" if right else None,
            "lenient": "A" if right or i == 1 else "B",
            "correct": right,
            "schema_leak": i in leak,
            "refusal": i == 3 and not right,
            "cut": i == 2 and not right,
            "kind": "right" if right else "no_letter",
            "subject": f"s{i % 2}",
            "slice": None,
        }
        for i, right in enumerate(written)
    ]
    letter = [{"correct": right, "subject": "virology", "slice": None} for right in known]
    return GeneralAnswers(log_likelihood, generative, letter)


YES, NO = True, False


def test_accuracy_by_protocol_slice_and_subject():
    measured = measure_general(_samples([YES, YES, NO, YES], [YES, NO, NO, NO], leak={2, 3}), confidence=0.95)
    assert measured["log_likelihood"]["accuracy"] == 3 / 4
    assert measured["generative_strict"]["accuracy"] == 1 / 4
    assert measured["generative_lenient"]["accuracy"] == 2 / 4
    assert measured["schema_leak"]["ratio"] == 2 / 4
    assert measured["extraction_failure"]["ratio"] == 3 / 4
    assert measured["log_likelihood"]["slices"]["replayed"]["n"] == 2
    assert measured["log_likelihood"]["subjects"]["s0"]["accuracy"] == 1 / 2
    assert measured["generative_strict"]["slices"] == {}
    assert measured["chance"] == 0.25
    assert measured["letter_constrained"]["groups"]["other"]["accuracy"] == 3 / 4
    assert measured["log_likelihood"]["groups"] == {}
    assert (measured["refusal"]["count"], measured["truncated"]["count"]) == (1, 1)
    assert measured["answer_kinds"] == {"no_letter": 3, "right": 1}
    assert measured["scoring"] == ["echo"]


def test_the_alarm_needs_the_whole_interval_below_chance():
    def alarm(right, wrong):
        samples = [{"correct": i < right, "subject": "s", "slice": None} for i in range(right + wrong)]
        return measure_accuracy(samples, lambda s: s["correct"], 0.95)["below_chance"]

    assert alarm(0, 20)
    assert not alarm(0, 8)  # 0 of 8 is possible by guessing
    assert not alarm(20, 80)
    assert alarm(150, 850)


def test_format_tax_is_what_writing_lost_beyond_knowledge():
    base = _samples([YES] * 4, [YES] * 4)
    candidate = _samples([YES, YES, YES, NO], [NO, NO, YES, NO])
    compared = compare_general(candidate, base, num_resamples=50, confidence=0.95, seed=0)
    assert compared["knowledge_change"]["value"] == -1 / 4
    assert compared["generative_change"]["value"] == -3 / 4
    assert compared["format_tax"]["value"] == pytest.approx(2 / 4)
    assert compared["knowledge_change"]["lost"] == 1
    assert compared["letter_change"]["value"] == -1 / 4
    assert compared["extraction_failure_change"]["value"] == 3 / 4
    assert compared["lenient_change"]["value"] == -2 / 4
    assert compared["format_tax"]["low"] <= 0.5 <= compared["format_tax"]["high"]


def test_a_model_that_forgot_both_alike_pays_no_format_tax():
    compared = compare_general(
        _samples([YES, NO], [YES, NO]), _samples([YES, YES], [YES, YES]), num_resamples=50, confidence=0.95, seed=0
    )
    assert compared["format_tax"] == {"value": 0, "low": 0, "high": 0, "n": 2}


def test_answers_that_were_scored_in_different_ways_are_not_compared():
    other = _samples([YES], [YES], scoring="logprob_token_ids")
    with pytest.raises(CoverageError, match="candidate: echo; reference: logprob_token_ids"):
        compare_general(_samples([YES], [YES]), other, num_resamples=50, confidence=0.95, seed=0)


def test_an_alarm_of_one_subject_of_many_needs_more_than_luck():
    def alarms(num_subjects):
        samples = [
            {"correct": i % 100 < 15 if i < 100 else True, "subject": f"s{i // 100}", "slice": None}
            for i in range(100 * num_subjects)
        ]
        return measure_accuracy(samples, lambda s: s["correct"], 0.95)["subjects"]["s0"]["below_chance"]

    assert alarms(1)
    assert not alarms(57)
