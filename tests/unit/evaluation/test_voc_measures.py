"""How well answers keep to the contract, by hand."""

import pytest

from evaluation.voc_measures import VocAnswer, measure_emotion, measure_rates, measure_voc
from voc.records import Segment, VocRecord
from voc.taxonomy import Leaf, Taxonomy

A, B, C = ("x", "y", "z", "a"), ("x", "y", "z", "b"), ("q", "q", "q", "q")
TAXONOMY = Taxonomy((Leaf(A, ""), Leaf(B, ""), Leaf(C, "")))
RECORD = VocRecord("1", "slow box, loud bell", (Segment("slow box", A, "bad"), Segment("loud bell", C, "good")))


def _answer(*segments, failure=None, strict=True):
    return VocAnswer(RECORD, tuple(Segment(*segment) for segment in segments), failure, strict)


def _rates(*answers):
    return {name: share["ratio"] for name, share in measure_rates(answers, TAXONOMY, 0.95).items()}


def test_a_perfect_answer_keeps_the_contract():
    assert _rates(_answer(("slow box", A, "bad"), ("loud bell", C, "good"))) == {
        "parse_failure": 0,
        "strict_failure": 0,
        "invented_label": 0,
        "rewritten_content": 0,
        "coverage": 1,
        "overlap": 0,
        "segments_per_expected": 1,
        "sibling_confusion": None,
    }


def test_lenient_and_strict_failures_are_counted_apart():
    rates = measure_rates(
        [_answer(failure="not_json", strict=False), _answer(("slow box", A, "bad"), strict=False), _answer()],
        TAXONOMY,
        0.95,
    )
    assert (rates["parse_failure"]["count"], rates["strict_failure"]["count"]) == (1, 2)
    assert rates["parse_failure"]["interval"][0] > 0


def test_invented_labels_and_rewritten_contents_are_shares_of_the_predicted_segments():
    rates = _rates(
        _answer(
            ("slow box", ("x", "y", "z", "new"), "bad"), ("Loud bell", C, "good"), ("", A, "bad"), ("box", A, "bad")
        )
    )
    assert rates["invented_label"] == 1 / 4
    assert rates["rewritten_content"] == 2 / 4
    assert rates["segments_per_expected"] == 4 / 2


def test_coverage_counts_gold_characters_and_overlap_counts_doubled_ones():
    rates = _rates(_answer(("slow box", A, "bad"), ("box", B, "bad")))
    assert rates["coverage"] == pytest.approx(8 / 17)  # "slow box" of "slow box" and "loud bell"
    assert rates["overlap"] == pytest.approx(3 / 8)


def test_a_repeated_content_covers_its_next_occurrence():
    record = VocRecord("1", "bad, bad", (Segment("bad", A, "x"), Segment("bad", B, "x")))
    answer = VocAnswer(record, record.segments, None, True)
    rates = _rates(answer)
    assert (rates["coverage"], rates["overlap"]) == (1, 0)


def test_sibling_confusion_is_a_wrong_leaf_under_the_right_parent():
    assert _rates(_answer(("slow box", B, "bad"), ("loud bell", C, "good")))["sibling_confusion"] == 1
    assert _rates(_answer(("slow box", A, "bad"), ("loud bell", B, "good")))["sibling_confusion"] == 0


def test_emotion_counts_only_labels_that_were_found():
    answers = [_answer(("slow box", A, "bad"), ("loud bell", C, "bad")), _answer(("slow box", B, "good"))]
    assert measure_emotion(answers) == {"accuracy": 1 / 2, "num_pairs": 2}
    assert measure_emotion([_answer()]) == {"accuracy": None, "num_pairs": 0}


def test_all_figures_come_together():
    answers = [_answer(("slow box", A, "bad")), _answer(failure="truncated", strict=False)]
    measured = measure_voc(answers, TAXONOMY, {A: 3}, num_resamples=20, confidence=0.95, seed=0)
    assert list(measured["levels"]) == ["L1", "L2", "L3", "L4"]
    assert measured["levels"]["L4"]["micro"] == pytest.approx({"precision": 1, "recall": 1 / 4, "f1": 2 / 5})
    assert measured["failures"] == {"truncated": 1}
    assert measured["num_items"] == 2
    low, high = measured["intervals"]["micro"]["f1"]
    assert 0 <= low <= 2 / 5 <= high <= 1
