"""The complete list of training rows that an evaluation set shares something with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corpus import build as overlap_rows
from corpus.build import list_overlaps
from corpus.comparison.contamination import EvaluationSet, find_contamination
from corpus.comparison.duplicates import find_duplicates
from tests.part_files import map_in_order, write_parts
from voc.config.data import ContaminationConfig, DuplicatesConfig

ITEM = [f"q{number}" for number in range(30)]
SHARED = " ".join(ITEM[3:18])


def test_every_row_is_listed_with_its_id_an_item_and_how_they_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overlap_rows, "_ROWS_AT_ONCE", 2)
    texts = [
        "nothing",
        f"a {SHARED}",
        "Hidden",
        *[f"{SHARED} again {number}" for number in range(4)],
        SHARED + " " * 400,
    ]
    ids = [f"a{number}" for number in range(len(texts))]
    parts = write_parts(tmp_path, "a", texts, labels="L", ids=ids, part_rows=3)
    parts += write_parts(tmp_path, "test", ["other words", "hidden"], labels="L", ids=["t0", "t1"], is_test=True)
    work = {"work_folder": tmp_path / "work", "map_parts": map_in_order}
    duplicates = find_duplicates(parts, DuplicatesConfig(leakage="error", near="off"), seed=0, **work)
    sets = [EvaluationSet("voc_test", ["other words", "hidden"]), EvaluationSet("mmlu", ["x y", " ".join(ITEM)])]
    contamination = find_contamination(parts, sets, ContaminationConfig(), dropped={}, **work)

    lines = [json.loads(line) for line in list_overlaps(duplicates, contamination, parts)]
    listed = [(line["kind"], line["evaluation_set"], line["row"], line["id"], line["item"]) for line in lines]
    assert listed == [
        ("leakage_exact", "voc_test", 2, "a2", 1),
        ("ngram", "voc_test", 2, "a2", 1),
        *(("ngram", "mmlu", row, f"a{row}", 1) for row in (1, 3, 4, 5, 6, 7)),
    ]
    assert [line["text"] for line in lines[:3]] == ["Hidden", "Hidden", f"a {SHARED}"]
    assert max(len(line["text"]) for line in lines) == 200
