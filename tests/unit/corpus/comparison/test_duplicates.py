from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.comparison.duplicates import DuplicateFindings, check_leakage, find_duplicates
from corpus.comparison.ngrams import normalise_text
from corpus.parts.part_files import PartFile
from tests.part_files import map_backwards, map_in_order, write_parts
from voc.config.data import DuplicatesConfig
from voc.errors import DataError

LONG = " ".join(f"word{i}" for i in range(60))
OTHER = " ".join(f"other{i}" for i in range(60))


def find(
    parts: list[PartFile], folder: Path, map_parts: Any = map_in_order, seed: int = 7, **config: Any
) -> DuplicateFindings:
    return find_duplicates(
        parts, DuplicatesConfig(**config), seed=seed, work_folder=folder / "work", map_parts=map_parts
    )


def list_dropped(findings: DuplicateFindings) -> dict[str, list[int]]:
    return {source: rows.tolist() for source, rows in findings.dropped.items() if len(rows)}


def test_the_first_of_equal_texts_with_equal_labels_stays(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["Good  camera", "other", "good camera ", "GOOD CAMERA"], labels="L")
    parts += write_parts(tmp_path, "b", ["new", "good camera"], labels="L")
    findings = find(parts, tmp_path)
    assert list_dropped(findings) == {"a": [2, 3], "b": [1]}
    assert findings.dropped_reasons["a"]["exact_duplicate"] == 2
    assert (findings.found["a"]["exact_inside"], findings.found["a"]["exact_across"]) == (2, 0)
    assert (findings.found["b"]["exact_inside"], findings.found["b"]["exact_across"]) == (0, 1)


def test_punctuation_and_emoji_keep_texts_apart_word_for_word_but_near(tmp_path: Path) -> None:
    parts = write_parts(
        tmp_path, "a", ["I love this camera", "i love this camera!!", "I love this camera 😡"], labels="L"
    )
    findings = find(parts, tmp_path)
    assert list_dropped(findings) == {}
    assert findings.found["a"]["exact_inside"] == 0
    assert findings.found["a"]["near_inside"] == 2


def test_what_is_only_reported_is_counted_and_stays(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["x y z", "x y z", LONG, LONG + " more"], labels="L")
    findings = find(parts, tmp_path, exact="report")
    assert list_dropped(findings) == {}
    assert findings.found["a"]["exact_inside"] == 1
    assert findings.found["a"]["near_inside"] == 1


def test_of_near_duplicates_the_first_stays_if_they_are_dropped(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", [OTHER, LONG, LONG + " more"], labels="L")
    parts += write_parts(tmp_path, "b", ["and " + LONG, "nothing like it"])
    findings = find(parts, tmp_path, near="drop")
    assert list_dropped(findings) == {"a": [2], "b": [0]}
    assert findings.found["b"]["near_across"] == 1
    assert findings.dropped_reasons["b"]["near_duplicate"] == 1


def test_near_duplicates_are_not_searched_if_they_are_off(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", [LONG, LONG + " more"])
    findings = find(parts, tmp_path, near="off")
    assert findings.found["a"]["near_inside"] == 0
    assert findings.near == {}


def test_equal_texts_with_different_labels_are_a_conflict_shown_without_the_comment(tmp_path: Path) -> None:
    parts = write_parts(
        tmp_path,
        "a",
        ["Secret", "secret", "other", "secret"],
        labels=["L1", "L2", "L1", "L1"],
        ids=["i0", "i1", "", ""],
    )
    parts += write_parts(tmp_path, "b", ["other", "alone"], labels="L9")
    findings = find(parts, tmp_path)
    assert findings.found["a"]["label_conflict_inside"] == 3
    assert findings.found["a"]["label_conflict_across"] == 1
    assert findings.found["b"]["label_conflict_across"] == 1
    assert findings.label_conflicts == [
        {"rows": ["a row 0 (id i0)", "a row 1 (id i1)"], "labels": ["L1", "L2"]},
        {"rows": ["a row 2", "b row 0"], "labels": ["L1", "L9"]},
    ]
    assert list_dropped(findings) == {"a": [3]}
    assert "secret" not in json.dumps(findings.to_json()).casefold()


def test_all_rows_of_a_label_conflict_go_if_they_are_dropped(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["x", "x", "y", "x"], labels=["L1", "L2", "L1", "L1"])
    findings = find(parts, tmp_path, label_conflicts="drop")
    assert list_dropped(findings) == {"a": [0, 1, 3]}
    assert findings.dropped_reasons["a"]["label_conflict"] == 3


def test_examples_of_conflicts_are_limited_and_counts_are_not(tmp_path: Path) -> None:
    texts = [f"text number {i // 2}" for i in range(100)]
    findings = find(write_parts(tmp_path, "a", texts, labels=["L1", "L2"] * 50), tmp_path)
    assert len(findings.label_conflicts) == 20
    assert findings.found["a"]["label_conflict_inside"] == 100


def test_a_general_row_is_neither_duplicate_nor_conflict_of_a_comment(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "voc", ["same text"], labels="L") + write_parts(
        tmp_path, "general", ["same text"] * 2
    )
    findings = find(parts, tmp_path)
    assert list_dropped(findings) == {"general": [1]}
    assert findings.found["general"]["label_conflict_across"] == 0


def test_a_training_row_of_the_test_set_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["hidden", LONG], labels="L", ids=["a0", "a1"])
    parts += write_parts(tmp_path, "test", [LONG + " more", "Hidden"], labels="L", ids=["t0", "t1"], is_test=True)
    findings = find(parts, tmp_path)
    assert findings.leaks["a"].tolist() == [(0, 1, False), (1, 0, True)]
    with pytest.raises(DataError) as caught:
        check_leakage(findings)
    assert "a: 1 word for word, 1 nearly" in str(caught.value)
    assert "a row 0 (id a0) repeats test row 1 (id t1)" in str(caught.value)
    assert "data.duplicates.leakage" in str(caught.value)
    assert "hidden" not in str(caught.value).casefold()


def test_leaked_rows_are_dropped_from_training_and_never_from_the_test_set(tmp_path: Path) -> None:
    texts = ["hidden", "free", LONG, "hidden"]
    parts = write_parts(tmp_path, "test", ["Hidden", LONG + " more", "hidden"], labels="L", is_test=True)
    parts += write_parts(tmp_path, "a", texts, labels="L")
    findings = find(parts, tmp_path, leakage="drop", near="drop")
    assert list_dropped(findings) == {"a": [0, 2, 3]}
    assert findings.dropped_reasons["a"]["leakage_exact"] == 2
    assert findings.dropped_reasons["a"]["leakage_near"] == 1
    assert findings.found["test"]["exact_inside"] == 1
    assert findings.leakage[0] == {"row": "a row 0", "test_row": "test row 0", "kind": "exact"}
    assert findings.leakage[-1]["kind"] == "near"


def test_leakage_that_is_reported_stays_in_training(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["hidden"]) + write_parts(tmp_path, "test", ["hidden"], is_test=True)
    findings = find(parts, tmp_path, leakage="report")
    assert list_dropped(findings) == {}
    assert findings.found["a"]["leakage_exact"] == 1


def test_near_leakage_is_not_looked_for_if_near_is_off(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", [LONG]) + write_parts(tmp_path, "test", [LONG + " more"], is_test=True)
    assert find(parts, tmp_path, near="off").found["a"]["leakage_near"] == 0


def test_a_row_that_is_like_a_leaked_row_but_not_like_the_test_row_is_no_leak(tmp_path: Path) -> None:
    words = LONG.split()
    test, between, far = words, [*words[6:], "x1", "x2"], [*words[12:], "x1", "x2"]
    parts = write_parts(tmp_path, "a", [" ".join(between), " ".join(far)])
    parts += write_parts(tmp_path, "test", [" ".join(test)], is_test=True)
    findings = find(parts, tmp_path, leakage="drop")
    assert list_dropped(findings) == {"a": [0]}


def test_the_later_row_of_an_id_is_dropped_within_a_source_only(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["one", "two", "three", "four"], ids=["i", "", "i", ""], part_rows=2)
    parts += write_parts(tmp_path, "b", ["five"], ids=["i"])
    findings = find(parts, tmp_path)
    assert list_dropped(findings) == {"a": [2]}
    assert findings.dropped_reasons["a"]["duplicate_id"] == 1


def test_a_text_stays_once_though_its_first_row_is_dropped_for_its_id(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["one", "two", "two", LONG, LONG + " x"], ids=["i", "i", "k", "k", "m"])
    findings = find(parts, tmp_path, near="drop")
    assert list_dropped(findings) == {"a": [1, 3]}


def test_every_dropped_row_has_its_reason_and_a_row_that_several_fit_has_the_first(tmp_path: Path) -> None:
    texts = ["one", "one", LONG, "hidden", LONG + " x", "one", "two"]
    parts = write_parts(tmp_path, "a", texts, labels=[*"LLLLLL", "K"], ids=["i", "", "", "", "", "i", ""])
    parts += write_parts(tmp_path, "test", ["hidden"], is_test=True)
    findings = find(parts, tmp_path, leakage="drop", near="drop")
    assert list_dropped(findings) == {"a": [1, 3, 4, 5]}
    assert findings.reason_of("a") == ["exact_duplicate", "leakage_exact", "near_duplicate", "duplicate_id"]
    assert findings.reason_of("test") == findings.reason_of("without parts") == []


def test_empty_texts_and_texts_without_words_are_equal_or_not_but_never_near(tmp_path: Path) -> None:
    findings = find(write_parts(tmp_path, "a", ["", "", "!!!", "😀", "?", "x"]), tmp_path)
    assert list_dropped(findings) == {"a": [1]}
    assert findings.found["a"]["near_inside"] == 0
    assert findings.near["rows_without_words"] == 5


def test_a_source_without_rows_and_no_parts_at_all_give_empty_findings(tmp_path: Path) -> None:
    assert find([], tmp_path).to_json()["found"] == {}
    assert list_dropped(find(write_parts(tmp_path, "a", ["x"]), tmp_path)) == {}


def test_fifty_thousand_equal_rows_leave_one(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", [LONG] * 50_000, labels="L", part_rows=25_000)
    findings = find(parts, tmp_path)
    assert findings.dropped_reasons["a"]["exact_duplicate"] == 49_999
    assert findings.near["compared_pairs"] == 0


def make_mixed_rows(count: int) -> tuple[list[str], list[str]]:
    """Rows of which some repeat, some are near and some conflict."""
    chooser = random.Random(3)
    texts: list[str] = []
    for i in range(count):
        kind = chooser.random()
        if texts and kind < 0.2:
            texts.append(chooser.choice(texts))
        elif texts and kind < 0.4:
            texts.append(chooser.choice(texts) + " and more")
        else:
            texts.append(" ".join(f"w{chooser.randrange(500)}" for _ in range(25)) if i % 9 else "short one")
    return texts, [chooser.choice(["L1", "L2"]) for _ in texts]


def test_findings_depend_on_neither_part_borders_nor_the_order_of_tasks(tmp_path: Path) -> None:
    texts, labels = make_mixed_rows(400)
    config = {"near": "drop", "leakage": "drop"}
    findings = []
    for name, part_rows, map_parts in (("x", 400, map_in_order), ("y", 37, map_backwards), ("z", 1, map_in_order)):
        folder = tmp_path / name
        parts = write_parts(folder, "a", texts[:300], labels=labels[:300], part_rows=part_rows)
        parts += write_parts(folder, "test", texts[300:], labels=labels[300:], part_rows=part_rows, is_test=True)
        findings.append(find(parts, folder, map_parts, **config))
    assert list_dropped(findings[0]) == list_dropped(findings[1]) == list_dropped(findings[2])
    assert findings[0].to_json() == findings[1].to_json() == findings[2].to_json()
    assert all(count for count in findings[0].dropped_reasons["a"].values() if count != 0)
    assert sum(findings[0].dropped_reasons["a"].values()) > 50


def test_nothing_is_left_in_the_work_folder_and_a_second_search_finds_the_same(tmp_path: Path) -> None:
    texts, labels = make_mixed_rows(100)
    parts = write_parts(tmp_path, "a", texts, labels=labels)
    first, second = find(parts, tmp_path), find(parts, tmp_path)
    assert first.to_json() == second.to_json()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_task_that_gets_lost_is_an_error(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, "a", ["x", "y"], part_rows=1)
    with pytest.raises(DataError, match="1 of 2 part files"):
        find(parts, tmp_path, lambda function, tasks: [function(tasks[0])])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "A ", "a  b", "a B", "ﬁ", "fi", "", "😀"]), st.sampled_from("xy")), max_size=12
    ),
    st.integers(1, 5),
)
def test_exact_duplicates_are_those_of_a_naive_search(
    tmp_path: Path, rows: list[tuple[str, str]], part_rows: int
) -> None:
    parts = write_parts(tmp_path, "a", [t for t, _ in rows], labels=[x for _, x in rows], part_rows=part_rows)
    dropped = list_dropped(find(parts, tmp_path)).get("a", [])
    meanings = [(normalise_text(text), label) for text, label in rows]
    assert dropped == [i for i, meaning in enumerate(meanings) if meaning in meanings[:i]]
