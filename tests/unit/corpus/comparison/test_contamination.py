from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.comparison.contamination import (
    ContaminationFindings,
    EvaluationSet,
    HashSet,
    Overlap,
    check_contamination,
    find_contamination,
    list_ngrams,
)
from corpus.parts.part_files import PartFile
from tests.part_files import map_backwards, map_in_order, write_parts
from voc.config.data import ContaminationConfig
from voc.errors import DataError


def make_words(name: str, count: int) -> list[str]:
    return [f"{name}{i}" for i in range(count)]


def find(
    parts: list[PartFile],
    sets: dict[str, list[str]],
    folder: Path,
    *,
    map_parts: Any = map_in_order,
    dropped: dict[str, np.ndarray] | None = None,
    ngram_words: int = 13,
) -> ContaminationFindings:
    return find_contamination(
        parts,
        [EvaluationSet(name, texts) for name, texts in sets.items()],
        ContaminationConfig(ngram_words=ngram_words),
        dropped=dropped or {},
        work_folder=folder / "work",
        map_parts=map_parts,
    )


def find_one(texts: list[str], items: list[str], folder: Path, **options: Any) -> Overlap:
    (overlap,) = find(write_parts(folder, "a", texts), {"set": items}, folder, **options).overlaps
    return overlap


def test_a_row_with_thirteen_words_of_an_item_is_found_whatever_case_and_punctuation(tmp_path: Path) -> None:
    item = make_words("q", 20)
    row = "Before that: " + ", ".join(item[4:17]).upper() + " - and after."
    overlap = find_one(["nothing", row, row], ["unlike " * 20, " ".join(item)], tmp_path)
    assert (overlap.num_items, overlap.num_found, overlap.num_rows) == (2, 1, 2)
    assert overlap.examples == ((1, 1),)
    assert overlap.ratio == 0.5


def test_twelve_words_of_an_item_are_not_enough(tmp_path: Path) -> None:
    item = make_words("q", 20)
    assert find_one([" ".join([*item[:12], "x", *item[13:]])], [" ".join(item)], tmp_path).num_found == 0


def test_an_ngram_may_cross_lines_but_not_rows(tmp_path: Path) -> None:
    item = make_words("q", 13)
    halves = [" ".join(item[:6]), " ".join(item[6:])]
    assert find_one(["\n".join(halves)], [" ".join(item)], tmp_path / "x").num_found == 1
    assert find_one(halves, [" ".join(item)], tmp_path / "y").num_found == 0


@pytest.mark.parametrize(
    ("row", "is_found"),
    [
        ("Love it!", True),
        ("user question\nlove it\nanswer", True),
        ("love\nit", True),
        ("I love it", False),
        ("love", False),
    ],
)
def test_a_short_item_is_found_in_a_row_or_line_of_the_same_words_only(
    tmp_path: Path, row: str, is_found: bool
) -> None:
    assert find_one([row], ["Love it"], tmp_path).num_found == is_found


def test_boilerplate_is_left_out_and_counted_and_the_rest_of_the_item_is_compared(tmp_path: Path) -> None:
    line = " ".join(make_words("instruction", 13))
    items = [f"{line} {' '.join(make_words(f'item{i}x', 13))}" for i in range(5)]
    parts = write_parts(tmp_path, "a", [line, " ".join(make_words("item3x", 13))])
    findings = find(parts, {"set": [*items, line]}, tmp_path)
    (overlap,) = findings.overlaps
    assert (overlap.num_found, overlap.examples) == (1, ((3, 1),))
    assert findings.evaluation_sets["set"]["excluded_ngrams"] == 1
    assert findings.evaluation_sets["set"]["unchecked_items"] == 1


def test_what_stands_in_two_items_or_in_one_per_cent_is_no_boilerplate() -> None:
    shared, filler = make_words("s", 13), [" ".join(make_words(f"f{i}x", 13)) for i in range(398)]
    for copies, excluded in ((2, 0), (3, 0), (4, 0), (5, 1)):
        items = [" ".join(shared)] * copies + filler
        assert list_ngrams(EvaluationSet("set", items[:400]), 13).num_excluded == excluded, copies


def test_an_ngram_that_one_item_repeats_counts_once() -> None:
    item = " ".join(make_words("q", 13) * 5)
    ngrams = list_ngrams(EvaluationSet("set", [item]), 13)
    assert (len(ngrams.hashes), ngrams.num_excluded) == (13, 0)


def test_empty_items_are_counted_as_unchecked(tmp_path: Path) -> None:
    findings = find(write_parts(tmp_path, "a", ["", "!!", "x"]), {"set": ["", "!?", "y"]}, tmp_path)
    assert findings.evaluation_sets["set"]["unchecked_items"] == 2
    assert findings.overlaps[0].num_found == 0


def test_rows_that_are_dropped_and_the_test_set_itself_are_not_scanned(tmp_path: Path) -> None:
    item = " ".join(make_words("q", 14))
    parts = write_parts(tmp_path, "a", ["x", item, item], part_rows=2)
    parts += write_parts(tmp_path, "test", [item], is_test=True)
    one = find(parts, {"set": [item]}, tmp_path, dropped={"a": np.array([1])})
    assert [(o.source, o.num_rows, o.examples) for o in one.overlaps] == [("a", 1, ((0, 2),))]
    assert find(parts, {"set": [item]}, tmp_path, dropped={"a": np.array([1, 2])}).overlaps[0].num_found == 0


def test_every_source_is_compared_with_every_set(tmp_path: Path) -> None:
    one, two = (" ".join(make_words(name, 15)) for name in ("one", "two"))
    parts = write_parts(tmp_path, "a", [one]) + write_parts(tmp_path, "b", [two, two, one])
    findings = find(parts, {"first": [one, "z"], "second": [two]}, tmp_path)
    found = [(o.source, o.evaluation_set, o.num_found, o.num_rows) for o in findings.overlaps]
    assert found == [("a", "first", 1, 1), ("a", "second", 0, 0), ("b", "first", 1, 1), ("b", "second", 1, 2)]


def test_findings_depend_on_neither_part_borders_nor_the_order_of_tasks(tmp_path: Path) -> None:
    items = [" ".join(make_words(f"i{i}x", 20)) for i in range(30)]
    texts = [items[i % 30] if i % 3 == 0 else f"row number {i}" for i in range(200)]
    seen = []
    for name, part_rows, map_parts in (("x", 200, map_in_order), ("y", 7, map_backwards)):
        parts = write_parts(tmp_path / name, "a", texts, part_rows=part_rows)
        seen.append(find(parts, {"set": items}, tmp_path / name, map_parts=map_parts).to_json())
    assert seen[0] == seen[1]
    assert seen[0]["overlaps"][0]["found_items"] == 10
    assert len(seen[0]["overlaps"][0]["examples"]) == 10


@pytest.mark.parametrize("sets", [{}, {"set": []}])
def test_nothing_to_compare_with_is_no_contamination(tmp_path: Path, sets: dict[str, list[str]]) -> None:
    findings = find(write_parts(tmp_path, "a", ["x"]), sets, tmp_path)
    check_contamination(findings, 0.0)
    assert [overlap.ratio for overlap in findings.overlaps] == [0.0] * len(sets)


def test_too_much_overlap_is_an_error_with_source_set_share_and_remedy(tmp_path: Path) -> None:
    item = " ".join(make_words("q", 14))
    findings = find(write_parts(tmp_path, "web", ["x", item]), {"mmlu": [item, "a", "b", "c"]}, tmp_path)
    check_contamination(findings, 0.25)
    with pytest.raises(DataError) as caught:
        check_contamination(findings, 0.2)
    message = str(caught.value)
    for part in ("web", "1 of 4 items of mmlu", "25.00%", "20.00%", "item 0, row 1", "data.contamination.max_ratio"):
        assert part in message
    assert "q0" not in message


def test_a_task_that_gets_lost_is_an_error(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["x", "y"], part_rows=1)
    with pytest.raises(DataError, match="1 of 2 part files"):
        find(parts, {"set": ["z"]}, tmp_path, map_parts=lambda function, tasks: [function(tasks[0])])


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=20).map(sorted),
    st.lists(st.integers(0, 2**64 - 1), max_size=20),
    st.data(),
)
def test_membership_in_a_hash_set_is_exact(members: list[int], others: list[int], data: st.DataObject) -> None:
    asked = others + (data.draw(st.lists(st.sampled_from(members), max_size=5)) if members else [])
    found = HashSet(np.array(members, dtype=np.uint64)).find(np.array(asked, dtype=np.uint64))
    assert found.tolist() == [i for i, value in enumerate(asked) if value in members]
