"""Every VOC measure equals plain loops, and the label averages equal scikit-learn too, on any answers that can be given.

The answers hold absent labels, invented ones, no predictions, repeated segments, several segments with one label, contents that
are not in the comment, empty contents and overlapping ones.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report, precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from evaluation.intervals import Bootstrap
from evaluation.suites.voc.answers import VocAnswer
from evaluation.suites.voc.label_scores import measure_confusion
from evaluation.suites.voc.summary import TrainingLabels, assign_buckets, measure_voc
from tests.unit.evaluation import voc_brute_force as brute
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.records.records import Segment, VocRecord

LEAVES = [
    ("a", "a", "a", "a"),
    ("a", "a", "a", "b"),
    ("a", "a", "a", "c"),
    ("a", "a", "b", "a"),
    ("a", "b", "b", "a"),
    ("b", "a", "a", "a"),
]
TAXONOMY = Taxonomy(tuple(Leaf(path, "") for path in LEAVES))
INVENTED = [("a", "a", "a", "new"), ("new", "new", "new", "new")]
SUPPORT = dict(zip(LEAVES, (50, 20, 10, 5, 1, 0), strict=True))
TRAINING = TrainingLabels(SUPPORT, frozenset({"sad"}))
BOOTSTRAP = Bootstrap(5, 0.9, 0)
COMMENTS = ["ab ab c", "no no no", "xyz"]
CONTENTS = ["ab", "b a", "no", "no no", "xyz", "c", "rewritten"]


@st.composite
def answer_lists(draw):
    answers = []
    for number in range(draw(st.integers(1, 5))):
        comment = draw(st.sampled_from(COMMENTS))
        verbatim = st.sampled_from([content for content in CONTENTS if content in comment])
        gold = st.builds(Segment, verbatim, st.sampled_from(LEAVES), st.sampled_from(["sad", "glad"]))
        segment = st.builds(
            Segment,
            st.sampled_from(["", *CONTENTS]),
            st.sampled_from(LEAVES + INVENTED),
            st.sampled_from(["sad", "odd"]),
        )
        record = VocRecord(str(number), comment, tuple(draw(st.lists(gold, max_size=4))))
        failure = draw(st.sampled_from([None, None, None, "not_json"]))
        segments = (
            () if failure else draw(st.one_of(st.just(record.segments), st.lists(segment, max_size=5).map(tuple)))
        )
        repair = None if failure else draw(st.sampled_from([None, None, "prose"]))
        answers.append(VocAnswer(record, segments, failure, failure is None and repair is None, repair))
    return answers


def sides(answers):
    predicted = [{s.label for s in a.segments} for a in answers]
    return predicted, [{s.label for s in a.record.segments} for a in answers]


def figures(row):
    return [row[name] for name in ("precision", "recall", "f1")]


@given(answer_lists())
@settings(max_examples=150, deadline=None)
def test_every_figure_equals_plain_loops(answers):
    measured = measure_voc(answers, TAXONOMY, TRAINING, BOOTSTRAP)
    predicted, gold = sides(answers)
    strict = [p if a.strict else set() for a, p in zip(answers, predicted, strict=True)]
    for reading, labels in ((measured, predicted), (measured["strict"], strict)):
        for depth, level in enumerate(brute.LEVELS, start=1):
            expected = brute.all_averages(labels, gold, depth)
            for average, values in expected.items():
                assert figures(reading["levels"][level][average]) == pytest.approx(values), (level, average)
    assert figures(measured["hierarchical"]) == pytest.approx(brute.hierarchical(predicted, gold))

    buckets = assign_buckets(TAXONOMY, SUPPORT)
    for row in measured["buckets"]:
        allowed = {path for path in LEAVES if buckets[path] == row["name"]}
        inside = brute.all_averages(brute.only(predicted, allowed), brute.only(gold, allowed), 4)["micro"]
        assert figures(row) == pytest.approx(inside)

    segmentation, spans = measured["segmentation"], brute.span_figures(answers)
    for name, values in zip(("span_overlap", "labelled_span_overlap", "whole_segments"), spans, strict=True):
        assert figures(segmentation[name]) == pytest.approx(values), name
    counts, rates = brute.coverage_counts(answers), measured["rates"]
    for name, (a, b) in {
        "coverage": ("both", "gold"),
        "comment_coverage": ("written_ours", "written"),
        "gold_comment_coverage": ("written_theirs", "written"),
        "overlap": ("twice", "ours"),
    }.items():
        assert (rates[name]["count"], rates[name]["n"]) == (counts[a], counts[b]), name

    segments = [(s, a.record.comment) for a in answers for s in a.segments]
    assert rates["invented_label"]["count"] == sum(s.label in INVENTED for s, _ in segments)
    assert rates["rewritten_content"]["count"] == sum(s.content == "" or s.content not in c for s, c in segments)
    assert rates["segments_per_expected"]["count"] == rates["invented_label"]["n"] == len(segments)
    known = {"sad"} | {s.emotion for a in answers for s in a.record.segments}
    assert rates["unknown_emotion"]["count"] == sum(s.emotion not in known for s, _ in segments)
    assert (rates["parse_failure"]["count"], rates["repaired"]["count"]) == (
        sum(a.failure is not None for a in answers),
        sum(a.repair is not None for a in answers),
    )
    right, total = brute.emotion_counts(answers)
    assert (measured["emotion"]["accuracy"], measured["emotion"]["num_pairs"]) == (
        pytest.approx(right / total) if total else None,
        total,
    )


@given(answer_lists())
@settings(max_examples=100, deadline=None)
def test_wrong_labels_are_paired_as_near_as_any_pairing_could(answers):
    measured = measure_confusion(answers)
    best = np.zeros(4, dtype=int)
    for predicted, gold in zip(*sides(answers), strict=True):
        best += brute.best_nearness(predicted - gold, gold - predicted)
    assert [measured[kind]["count"] for kind in ("same_L3", "same_L2", "same_L1", "elsewhere")] == best.tolist()
    num_wrong = sum(len(p - g) for p, g in zip(*sides(answers), strict=True))
    assert measured["num_wrong"] == measured["same_L3"]["n"] == num_wrong
    assert measured["nothing_missed"]["count"] == num_wrong - best.sum()
    assert measured["not_replaced"]["count"] == measured["num_missed"] - best.sum()
    assert sum(pair["count"] for pair in measured["pairs"]) == best.sum()


@given(answer_lists())
@settings(max_examples=100, deadline=None)
def test_averages_and_labels_equal_scikit_learn(answers):
    measured = measure_voc(answers, TAXONOMY, TRAINING, BOOTSTRAP)
    predicted, gold = sides(answers)
    for depth, level in enumerate(brute.LEVELS, start=1):
        cut = [[{path[:depth] for path in labels} for labels in side] for side in (predicted, gold)]
        classes = sorted({path[:depth] for path in LEAVES + INVENTED})
        binarizer = MultiLabelBinarizer(classes=classes).fit([])
        y_pred, y_true = (binarizer.transform(side) for side in cut)
        supported = [i for i in range(len(classes)) if y_true[:, i].any()]
        # Where neither side has a label scikit-learn scores 0 and we score 1: nothing was asked and nothing said.
        both_empty = np.mean([not p and not g for p, g in zip(*cut, strict=True)])
        for average in ("micro", "macro", "weighted", "samples"):
            if average == "macro" and not supported:
                assert figures(measured["levels"][level]["macro"]) == [0, 0, 0]
                continue
            labels = supported if average == "macro" else None
            theirs = precision_recall_fscore_support(y_true, y_pred, average=average, labels=labels, zero_division=0)
            extra = both_empty if average == "samples" else 0
            expected = np.array(theirs[:3], dtype=float) + extra
            assert figures(measured["levels"][level][average]) == pytest.approx(expected), (level, average)
    report = classification_report(y_true, y_pred, zero_division=0, output_dict=True)
    for row in measured["labels"]:
        theirs = report[str(classes.index(tuple(row["label"])))]
        assert [row["precision"] or 0, row["recall"] or 0, row["f1"], row["support"]] == pytest.approx(
            [theirs["precision"], theirs["recall"], theirs["f1-score"], theirs["support"]]
        )
    listed = {tuple(row["label"]) for row in measured["labels"]}
    assert listed == set().union(*predicted, *gold)
