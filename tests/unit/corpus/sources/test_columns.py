from __future__ import annotations

from typing import Any

import pytest

from corpus.sources.columns import plan_columns, shape_row
from tests.unit.corpus.sources.read_source import make_source
from voc.errors import DataError
from voc.records.refusals import RowError

LABELS = ["L1", "L2", "L3", "L4", "emotion"]
GENERAL = {"format": "general"}


@pytest.mark.parametrize(
    ("available", "changes", "expected"),
    [
        (["id", "comment", "segments", "x"], {}, ["id", "comment", "segments"]),
        (["id", "comment", *LABELS], {}, ["id", "comment", *LABELS]),
        (["id", "comment", "segments", *LABELS, "content"], {}, ["id", "comment", "segments"]),
        (["messages", "prompt", "completion", "category"], GENERAL, ["messages", "category"]),
        (["prompt", "completion"], GENERAL, ["prompt", "completion"]),
    ],
)
def test_nested_columns_win_over_flat_ones(available: list[str], changes: dict[str, Any], expected: list[str]) -> None:
    assert plan_columns(make_source("x", **changes), available, "file") == {name: name for name in expected}


def test_a_column_that_is_mapped_to_one_field_is_not_another_one_too() -> None:
    source = make_source("x", columns={"comment": "content"})
    found = plan_columns(source, ["id", "content", *LABELS], "file")
    assert found["comment"] == "content"
    assert "content" not in found


@pytest.mark.parametrize(
    ("columns", "available", "changes", "problem"),
    [
        ({"comment": "text"}, ["id", "comment", "segments"], {}, r"no column 'text' \(mapped to comment\)"),
        ({"coment": "comment"}, ["id", "comment", "segments"], {}, "the field 'coment', which there is not"),
        ({"messages": "text"}, ["id", "comment", "segments"], {}, "the field 'messages', which there is not"),
        ({}, ["comment", "segments"], {}, "no column 'id'"),
        ({}, ["id", "comment", "L1", "L2", "L3", "L4"], {}, "no column 'emotion'"),
        ({}, ["prompt"], GENERAL, "no column 'completion'"),
        ({}, [], GENERAL, "no column 'messages'.*columns are none"),
        ({}, ["id", "id", "comment", "segments"], {}, "2 columns 'id'"),
    ],
)
def test_what_is_missing_is_said_with_what_there_is(
    columns: dict[str, str], available: list[str], changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        plan_columns(make_source("x", columns=columns, **changes), available, "file")


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(DataError, match=r"'text'.*no column 'id'.*no column 'segments'"):
        plan_columns(make_source("x", columns={"comment": "text"}), ["a"], "file")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_number_is_found_at_any_depth(value: float) -> None:
    with pytest.raises(RowError) as caught:
        shape_row({"id": "1", "comment": "c", "segments": [{"L1": "a"}, {"L1": value}]})
    assert caught.value.reason == "not_a_number"
    assert caught.value.detail.startswith("segments[1].L1 is")


@pytest.mark.parametrize(("found", "expected"), [(7, "7"), ("7", "7"), (True, True), (7.5, 7.5)])
def test_only_a_whole_number_becomes_an_id(found: Any, expected: Any) -> None:
    assert shape_row({"id": found})["id"] == expected


def test_a_row_without_an_id_gets_none() -> None:
    assert "id" not in shape_row({"id": None, "comment": "c", "segments": []})
