"""How well answers keep to the contract, by hand."""

import pytest

from evaluation.intervals import Bootstrap
from evaluation.suites.voc.answers import VocAnswer
from evaluation.suites.voc.label_scores import measure_confusion
from evaluation.suites.voc.segments import measure_coverage, measure_emotion, measure_segmentation
from evaluation.suites.voc.summary import TrainingLabels, measure_rates, measure_voc
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.records.records import Segment, VocRecord

A, B, C = ("x", "y", "z", "a"), ("x", "y", "z", "b"), ("q", "q", "q", "q")
D, E = ("x", "y", "w", "d"), ("x", "v", "v", "e")
TAXONOMY = Taxonomy(tuple(Leaf(path, "") for path in (A, B, C, D, E)))
RECORD = VocRecord("1", "slow box, loud bell", (Segment("slow box", A, "bad"), Segment("loud bell", C, "good")))
BOOTSTRAP = Bootstrap(20, 0.95, 0)
TRAINING = TrainingLabels({A: 3}, frozenset({"bad"}))


def _answer(*segments, failure=None, strict=True, record=RECORD, repair=None):
    return VocAnswer(record, tuple(Segment(*segment) for segment in segments), failure, strict, repair)


def _rates(*answers):
    return {
        name: share["ratio"] for name, share in measure_voc(answers, TAXONOMY, TRAINING, BOOTSTRAP)["rates"].items()
    }


def test_a_perfect_answer_keeps_the_contract():
    assert _rates(_answer(("slow box", A, "bad"), ("loud bell", C, "good"))) == {
        "parse_failure": 0,
        "strict_failure": 0,
        "repaired": 0,
        "damaged_text": 0,
        "invented_label": 0,
        "repeated_segment": 0,
        "segments_per_expected": 1,
        "coverage": 1,
        "comment_coverage": 15 / 16,
        "gold_comment_coverage": 15 / 16,
        "overlap": 0,
        "rewritten_content": 0,
        "unknown_emotion": 0,
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


def test_a_wrong_label_is_a_sibling_or_farther_away_or_said_beside_the_right_ones():
    record = VocRecord("1", "abcd", tuple(Segment(text, A, "bad") for text in "a"))
    for wrong, kind in ((B, "same_L3"), (D, "same_L2"), (E, "same_L1"), (C, "elsewhere")):
        confusion = measure_confusion([_answer(("a", wrong, "bad"), record=record)])
        assert confusion[kind] == {"ratio": 1, "count": 1, "n": 1}
        assert confusion["pairs"] == [{"gold": list(A), "predicted": list(wrong), "count": 1, "kind": kind}]
    beside = measure_confusion([_answer(("a", A, "bad"), ("a", B, "bad"), record=record)])
    assert (beside["nothing_missed"]["count"], beside["pairs"]) == (1, [])
    missed = measure_confusion([_answer(record=record)])
    assert (missed["not_replaced"]["ratio"], missed["num_wrong"]) == (1, 0)


def test_one_missed_label_explains_one_wrong_label():
    record = VocRecord("1", "a", (Segment("a", A, "bad"),))
    confusion = measure_confusion([_answer(("a", B, "bad"), ("a", D, "bad"), record=record)])
    assert (confusion["same_L3"]["count"], confusion["same_L2"]["count"], confusion["nothing_missed"]["count"]) == (
        1,
        0,
        1,
    )


def test_emotion_counts_only_labels_that_were_found():
    answers = [_answer(("slow box", A, "bad"), ("loud bell", C, "bad")), _answer(("slow box", B, "good"))]
    measured = measure_emotion(answers, {"bad"}, BOOTSTRAP)
    assert (measured["accuracy"], measured["num_pairs"]) == (1 / 2, 2)
    assert measured["interval"] == [
        1 / 2,
        1 / 2,
    ]  # all pairs are one comment's, so every resample that has them says the same
    assert measured["emotions"] == [
        {"emotion": "bad", "gold": 1, "predicted": 2, "true_positive": 1},
        {"emotion": "good", "gold": 1, "predicted": 0, "true_positive": 0},
    ]
    assert measured["confusion"] == [{"gold": "good", "predicted": "bad", "count": 1}]
    nothing = measure_emotion([_answer()], {"bad"}, BOOTSTRAP)
    assert (nothing["accuracy"], nothing["interval"], nothing["num_pairs"]) == (None, None, 0)


def test_an_emotion_that_no_row_has_is_unknown_and_not_only_wrong():
    answers = [_answer(("slow box", A, "Bad"), ("loud bell", C, "good"), ("box", B, "angry"))]
    measured = measure_emotion(answers, {"bad"}, BOOTSTRAP)
    assert measured["unknown"] == {"ratio": 2 / 3, "count": 2, "n": 3}
    assert measured["accuracy"] == 1 / 2


def test_several_emotions_of_one_label_are_compared_as_a_set():
    record = VocRecord("1", "ab", (Segment("a", A, "bad"), Segment("b", A, "good")))
    measured = measure_emotion(
        [_answer(("a", A, "good"), ("b", A, "bad"), record=record), _answer(("a", A, "bad"), record=record)],
        (),
        BOOTSTRAP,
    )
    assert (measured["accuracy"], measured["num_mixed"], measured["confusion"]) == (1 / 2, 2, [])


def test_half_a_span_is_half_found_and_the_wrong_label_is_not_found():
    measured = measure_segmentation([_answer(("slow", A, "bad"), ("loud bell", B, "good"))], BOOTSTRAP)
    assert measured["span_overlap"]["precision"] == 1
    assert measured["span_overlap"]["recall"] == pytest.approx(13 / 17)
    assert measured["labelled_span_overlap"]["precision"] == pytest.approx(4 / 13)
    assert measured["labelled_span_overlap"]["recall"] == pytest.approx(4 / 17)
    assert measured["whole_segments"]["f1"] == 0


def test_a_rewritten_segment_has_no_place_but_is_a_wrong_whole_segment():
    measured = measure_segmentation([_answer(("slow box", A, "bad"), ("The bell is loud", C, "good"))], BOOTSTRAP)
    assert measured["span_overlap"]["precision"] == 1
    assert measured["whole_segments"]["precision"] == 1 / 2
    assert measure_coverage([_answer(("The bell is loud", C, "good"))])["rewritten_content"]["ratio"] == 1


def test_damage_counts_only_where_the_comment_has_none():
    torn = VocRecord("1", "caf\ufffd", (Segment("caf\ufffd", A, "bad"),))
    answers = [
        _answer(("caf\ufffd", A, "bad"), record=torn),
        _answer(("slow b\ufffdx", A, "bad")),
        _answer(("slow box", ("x", "y", "z", "cafÃ©"), "bad")),
    ]
    assert measure_rates(answers, TAXONOMY, 0.95)["damaged_text"]["count"] == 2


def test_a_segment_that_is_said_again_is_counted():
    rates = measure_rates([_answer(("box", A, "bad"), ("box", A, "good"), ("box", B, "bad"))], TAXONOMY, 0.95)
    assert rates["repeated_segment"] == {"ratio": 1 / 3, "count": 1, "n": 3}


def test_the_strict_parse_is_scored_beside_the_lenient_one():
    whole = (("slow box", A, "bad"), ("loud bell", C, "good"))
    answers = [_answer(*whole), _answer(*whole, strict=False, repair="prose")]
    measured = measure_voc(answers, TAXONOMY, TRAINING, BOOTSTRAP)
    assert measured["levels"]["L4"]["micro"]["recall"] == 1
    assert measured["strict"]["levels"]["L4"]["micro"]["recall"] == 1 / 2
    assert measured["strict"]["intervals"]["micro"]["recall"][0] < 1 == measured["intervals"]["micro"]["recall"][0]
    assert (measured["repairs"], measured["failures"]) == ({"prose": 1}, {})


def test_each_language_is_scored_on_its_own():
    def record(name, **extra):
        return VocRecord(name, RECORD.comment, RECORD.segments, extra)

    answers = [
        _answer(("slow box", A, "bad"), record=record("1", lang="de")),
        _answer(("slow box", A, "bad"), ("loud bell", C, "good"), record=record("2", lang="de")),
        _answer(failure="empty", strict=False, record=record("3", lang="en")),
        _answer(("loud bell", C, "good"), record=record("4")),
    ]
    rows = measure_voc(answers, TAXONOMY, TRAINING, BOOTSTRAP)["languages"]
    assert [(row["language"], row["num_items"], row["micro"]["recall"]) for row in rows] == [
        ("de", 2, 3 / 4),
        ("en", 1, 0),
        ("unknown", 1, 1 / 2),
    ]
    assert rows[1]["parse_failure"]["ratio"] == 1
    low, high = rows[0]["intervals"]["micro"]["recall"]
    assert low <= 3 / 4 <= high


def test_all_figures_come_together():
    answers = [_answer(("slow box", A, "bad")), _answer(failure="truncated", strict=False)]
    measured = measure_voc(answers, TAXONOMY, TRAINING, BOOTSTRAP)
    assert list(measured["levels"]) == ["L1", "L2", "L3", "L4"]
    assert measured["levels"]["L4"]["micro"] == pytest.approx({"precision": 1, "recall": 1 / 4, "f1": 2 / 5})
    assert measured["failures"] == {"truncated": 1}
    assert measured["num_items"] == 2
    low, high = measured["intervals"]["micro"]["f1"]
    assert 0 <= low <= 2 / 5 <= high <= 1
    assert [(row["label"], row["support"], row["bucket"]) for row in measured["labels"]] == [
        (list(A), 2, "head"),
        (list(C), 2, "unseen"),
    ]
