from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from corpus.parts.part_files import read_batches, read_cells
from tests.part_files import write_parts
from voc.errors import DataError


def test_cells_are_read_by_source_and_row_across_parts_and_row_groups(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", [f"text {i}" for i in range(50)], ids=[f"i{i}" for i in range(50)], part_rows=20)
    parts += write_parts(tmp_path, "b", ["other"], ids=["o"])
    cells = read_cells(parts, {"a": [49, 0, 19, 20, 20], "b": [0]}, ("id",))
    assert {name: cell["id"] for name, cell in cells.items()} == {
        ("a", 0): "i0",
        ("a", 19): "i19",
        ("a", 20): "i20",
        ("a", 49): "i49",
        ("b", 0): "o",
    }


def test_batches_say_the_number_of_their_first_row(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", [str(i) for i in range(5000)], part_rows=2500)
    read = [(row, batch.column("text")[0].as_py()) for part in parts for row, batch in read_batches(part, ("text",))]
    assert read
    assert all(str(row) == text for row, text in read)


@pytest.mark.parametrize("num_rows", [4, 6])
def test_a_part_file_with_other_rows_than_its_part_says_is_refused(tmp_path: Path, num_rows: int) -> None:
    (part,) = write_parts(tmp_path, "a", ["x"] * 5)
    with pytest.raises(DataError, match=f"holds 5 rows.*Expected: {num_rows}"):
        list(read_batches(dataclasses.replace(part, num_rows=num_rows), ("text",)))
