from __future__ import annotations

from evaluation.items import Items
from evaluation.suites.voc.compare import restrict_items
from evaluation.suites.voc.label_scores import count_labels, score_labels
from voc.labels.taxonomy import LabelPath, NodePath

SHARED: dict[NodePath, LabelPath] = {("A", "B", "C", name): ("A", "B", "C", name.upper()) for name in "ab"}
SAME: dict[NodePath, LabelPath] = {leaf: leaf for leaf in SHARED.values()}


def leaves(names: str) -> frozenset[NodePath]:
    return frozenset(("A", "B", "C", name) for name in names)


def items(gold: list[str], predicted: list[str]) -> Items:
    return Items({}, [leaves(names) for names in gold], [leaves(names) for names in predicted], {})


def test_equal_answers_of_two_nights_score_equally_on_what_their_taxonomies_share() -> None:
    before = restrict_items(items(["a", "bx", "x"], ["a", "b", "bx"]), SHARED)
    after = restrict_items(items(["A", "B", "Y"], ["A", "BY", "B"]), SAME)
    assert before == after
    scores = [score_labels(count_labels(side.predicted, side.gold))["micro"][0] for side in (before, after)]
    assert scores[0].tolist() == scores[1].tolist() == [2 / 3, 1.0, 0.8]


def test_no_comment_is_dropped_and_what_is_not_a_label_is_left_alone() -> None:
    given = Items({"voc": ["1", "2"]}, [leaves("x"), leaves("a")], [leaves("x"), leaves("z")], {"mmlu": [True]})
    kept = restrict_items(given, SHARED)
    assert (kept.gold, kept.predicted) == ([frozenset(), leaves("A")], [frozenset(), frozenset()])
    assert (kept.ids, kept.correct) == (given.ids, given.correct)
