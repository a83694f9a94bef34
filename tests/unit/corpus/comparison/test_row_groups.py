from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.comparison.row_matches import (
    ROW,
    RowTable,
    find_conflicts,
    find_first_equal,
    find_first_equal_among,
    order_parts,
)
from corpus.parts.part_files import PartFile
from voc.errors import DataError

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30)


@given(PAIRS)
def test_the_first_equal_row_is_the_one_a_search_from_the_start_finds(rows: list[tuple[int, int]]) -> None:
    first = find_first_equal(*np.array(rows, dtype=np.uint64).reshape(-1, 2).T)
    assert first.tolist() == [rows.index(row) for row in rows]


@given(PAIRS, st.data())
def test_rows_that_are_not_chosen_stand_for_themselves(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    columns = np.array(rows, dtype=np.uint64).reshape(-1, 2).T
    first = find_first_equal_among(np.array(chosen, dtype=bool), *columns)
    for i, row in enumerate(rows):
        earlier = [j for j in range(i) if chosen[j] and rows[j] == row]
        assert first[i] == (earlier[0] if chosen[i] and earlier else i)


@given(PAIRS)
def test_a_conflict_is_one_text_with_two_different_labels(rows: list[tuple[int, int]]) -> None:
    texts, labels = np.array(rows, dtype=np.uint64).reshape(-1, 2).T
    found = find_conflicts(find_first_equal(texts), labels)
    assert found.tolist() == [
        label != 0 and any(t == text and other not in (0, label) for t, other in rows) for text, label in rows
    ]


def test_parts_are_sorted_by_row_within_sources_in_the_order_of_their_appearance() -> None:
    parts = [PartFile("b", "", 5, 5), PartFile("a", "", 0, 5), PartFile("b", "", 0, 5)]
    assert [(part.source, part.first_row) for part in order_parts(parts)] == [("b", 0), ("b", 5), ("a", 0)]


@pytest.mark.parametrize("first_row", [4, 6])
def test_parts_with_a_gap_or_an_overlap_are_refused(first_row: int) -> None:
    parts = [PartFile("a", "one", 0, 5), PartFile("b", "x", 0, 9), PartFile("a", "two", first_row, 5)]
    with pytest.raises(DataError, match=f"two begins with row {first_row} of a. Expected: row 5"):
        order_parts(parts)


def test_a_row_is_named_by_its_source_and_number_there_past_empty_sources() -> None:
    table = RowTable(("a", "empty", "b"), np.array([0, 2, 2, 4]), np.zeros(4, dtype=ROW), np.zeros(4, dtype=bool))
    assert [table.name_row(i) for i in range(4)] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert table.source_numbers.tolist() == [0, 0, 2, 2]
