"""Head, torso, tail, and the floor that memory alone reaches."""

import pytest

from evaluation.suites.voc.label_scores import count_labels
from evaluation.suites.voc.summary import (
    assign_buckets,
    build_lookup,
    collect_labels,
    count_support,
    measure_lookup_floor,
    score_buckets,
)
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.records.records import Segment, VocRecord

PATHS = [("x", "x", "x", name) for name in "abcdef"]
TAXONOMY = Taxonomy(tuple(Leaf(path, "") for path in PATHS))


def _record(name, comment, **labels):
    return VocRecord(
        name, comment, tuple(Segment(text, PATHS["abcdef".index(label)], "ok") for text, label in labels.items())
    )


def test_support_counts_comments_and_not_segments():
    record = VocRecord("1", "one two", (Segment("one", PATHS[0], "ok"), Segment("two", PATHS[0], "ok")))
    assert count_support([record, _record("2", "one", one="a")]) == {PATHS[0]: 2}


def test_labels_and_emotions_of_the_training_rows_are_collected():
    labels = collect_labels([_record("1", "one", one="a"), _record("2", "one", one="a")])
    assert (labels.support, labels.emotions) == ({PATHS[0]: 2}, {"ok"})


def test_head_holds_half_of_the_occurrences_torso_goes_to_80_percent_and_unseen_is_apart():
    # 40, 30, 10, 10, 10 of 100: a and b reach 50 (b starts at 40), c starts at 70, d starts at 80.
    support = dict(zip(PATHS, (40, 30, 10, 10, 10, 0), strict=True))
    assert [assign_buckets(TAXONOMY, support)[path] for path in PATHS] == [
        "head",
        "head",
        "torso",
        "tail",
        "tail",
        "unseen",
    ]


def test_without_training_rows_every_label_is_unseen():
    assert set(assign_buckets(TAXONOMY, {}).values()) == {"unseen"}


def test_buckets_are_scored_on_their_own_labels():
    support = dict(zip(PATHS, (40, 30, 10, 10, 10, 0), strict=True))
    counts = count_labels([{PATHS[0], PATHS[4], ("new",) * 4}, {PATHS[2]}], [{PATHS[0]}, {PATHS[3]}])
    rows = score_buckets(counts, assign_buckets(TAXONOMY, support), support)
    by_name = {row["name"]: row for row in rows}
    assert by_name["head"] == {
        "name": "head",
        "num_labels": 2,
        "training_support": 70,
        "gold": 1,
        "precision": 1,
        "recall": 1,
        "f1": 1,
    }
    assert (by_name["torso"]["gold"], by_name["torso"]["f1"]) == (0, 0)
    assert (by_name["tail"]["gold"], by_name["tail"]["recall"]) == (1, 0)
    assert by_name["unseen"]["num_labels"] == 1


def test_lookup_takes_the_most_frequent_label_of_a_text():
    training = [_record("1", "slow", slow="b"), _record("2", "slow", slow="a"), _record("3", "slow", slow="b")]
    assert build_lookup(training) == {"slow": PATHS[1]}
    assert build_lookup(training[:2]) == {"slow": PATHS[0]}  # a tie goes to the first path


def test_floor_predicts_every_known_text_that_occurs_in_the_comment():
    training = [_record("1", "slow and loud", slow="a", loud="b")]
    test = [
        _record("t1", "it is slow", slow="a"),
        _record("t2", "loud, slowly", loud="b"),
        _record("t3", "new", new="c"),
    ]
    # predicted {a}, {a, b}, {}: 2 true positives of 3 predicted and 3 gold.
    floor = measure_lookup_floor(training, test)
    assert floor["micro"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3})
