"""Incomplete evaluations are named, not averaged."""

import pytest

from evaluation.shards.coverage import check_coverage, list_coverage_problems, list_few
from voc.errors import CoverageError

EXPECTED = {f"item-{number}": "hash" for number in range(8)}


def _lines(*names, prompt_hash="hash"):
    return [{"custom_id": name, "prompt_hash": prompt_hash} for name in names]


def test_every_item_once_has_no_problems():
    assert list_coverage_problems("voc", EXPECTED, _lines(*reversed(EXPECTED))) == []


def test_missing_items_are_counted_and_a_few_are_named():
    problems = list_coverage_problems("voc", EXPECTED, _lines("item-0"))
    assert problems == ["voc: 7 of 8 expected items missing (item-1, item-2, item-3, item-4, item-5 and 2 more)"]


def test_duplicate_items_are_named():
    problems = list_coverage_problems("voc", EXPECTED, _lines(*EXPECTED, "item-3", "item-3"))
    assert problems == ["voc: 1 of 8 expected items duplicate (item-3)"]


def test_foreign_items_are_named():
    problems = list_coverage_problems("voc", EXPECTED, _lines(*EXPECTED, "other-1"))
    assert problems == ["voc: 1 foreign items (other-1)"]


def test_another_prompt_is_named():
    lines = _lines(*list(EXPECTED)[1:]) + _lines("item-0", prompt_hash="older")
    assert list_coverage_problems("voc", EXPECTED, lines) == [
        "voc: 1 of 8 expected items asked with another prompt (item-0)"
    ]


def test_all_problems_come_in_one_error():
    with pytest.raises(CoverageError, match=r"(?s)first problem.*second problem.*exactly once"):
        check_coverage(["first problem", "second problem"])
    check_coverage([])


def test_a_short_list_is_shown_whole():
    assert list_few(["a", "b"]) == "a, b"
