"""What prepare accepts of rows that preflight looked at: one reader and one rule, whatever the container."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from tests.tiny_run import make_voc_row
from tests.unit.corpus.nights import MakeRun, make_night, make_source, read_lines, read_report, to_jsonl
from voc.errors import DataError
from voc.labels.taxonomy import parse_taxonomy
from voc.preflight.data import RowReader
from voc.records.acceptance import RowRules, parse_accepted_rows
from voc.run import Run
from voc.store.manifest import read_manifest
from voc.store.uri import read_uri


def make_rows(count: int, *, repeated: int = 0) -> list[dict[str, Any]]:
    """Return rows of which the last `repeated` have the id of the first."""
    rows = [make_voc_row(number, number % 7) for number in range(count)]
    for row in rows[count - repeated :]:
        row["id"] = rows[0]["id"]
    return rows


def open_reader(run: Run) -> RowReader:
    """Return what preflight reads the run's files with."""
    data = run.config.data
    taxonomy = parse_taxonomy(read_uri(data.taxonomy).decode(), data.taxonomy)
    return RowReader(data, RowRules(data, taxonomy, check_languages=False))


def write_jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(to_jsonl(rows))
    return path


def write_packed(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(to_jsonl(rows)))
    return path


def write_parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_folder(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "rows"
    path.mkdir()
    for number, start in enumerate(range(0, len(rows), 30)):
        (path / f"part-{number}.jsonl").write_bytes(to_jsonl(rows[start : start + 30]))
    return path


def test_a_key_that_is_there_twice_is_refused_by_its_name(make_run: MakeRun, tmp_path: Path) -> None:
    row = make_voc_row(30)
    twice = json.dumps(row).replace('"comment":', f'"comment": {json.dumps("other")}, "comment":', 1)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(to_jsonl(make_rows(30)) + twice.encode() + b"\n")
    run = make_night(make_run, make_source(path), max_quarantine_ratio=0.1)
    prepare(run, map_here)
    (refused,) = read_lines(run, "quarantine.jsonl")
    assert (refused["line"], refused["reason"]) == (31, "duplicate_key")
    assert "'comment' is there twice" in refused["detail"]


def test_a_repeated_id_in_training_is_dropped_and_what_is_written_is_read_back(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_night(
        make_run,
        make_source(write_jsonl(tmp_path, make_rows(200, repeated=1))),
        duplicates={"leakage": "report", "near": "off", "exact": "report"},
        contamination={"max_ratio": 1},
    )
    assert open_reader(run).read_customer(run.config.data.sources[0].uri)[2] == 1
    prepare(run, map_here)
    assert read_report(run)["files"]["customer"]["dropped"] == {"duplicate_id": 1}
    (dropped,) = read_lines(run, "dropped.jsonl")
    assert (dropped["row"], dropped["reason"]) == (199, "duplicate_id")
    test = run.store.read_bytes(f"{run.layout.data}/test.jsonl")
    taxonomy = parse_taxonomy(run.store.read_bytes(f"{run.layout.data}/taxonomy.csv").decode(), "taxonomy.csv")
    assert len(parse_accepted_rows(test, taxonomy, "test.jsonl")) == 10


def test_a_repeated_id_in_the_test_set_is_refused_as_preflight_says_and_never_written(
    make_run: MakeRun, tmp_path: Path
) -> None:
    test = make_rows(200, repeated=1)
    for row in test:
        row["comment"] = f"unseen: {row['comment']}"
    (tmp_path / "unseen.jsonl").write_bytes(to_jsonl(test))
    settings = {
        "test": str(tmp_path / "unseen.jsonl"),
        "contamination": {"max_ratio": 1},
        "duplicates": {"near": "off", "exact": "report"},
    }
    source = make_source(write_jsonl(tmp_path, make_rows(40)))
    run = make_night(make_run, source, **settings)
    (foreseen,) = open_reader(run).read_test().rejections
    prepare(run, map_here)
    (refused,) = read_lines(run, "quarantine.jsonl")
    assert (refused["line"], refused["reason"], refused["detail"]) == (200, "duplicate_id", foreseen.detail)
    assert [row["id"] for row in read_lines(run, "test.jsonl")] == [row["id"] for row in test[:199]]

    strict = make_night(make_run, source, name="strict", max_quarantine_ratio=0.001, **settings)
    for judge in (lambda: open_reader(strict).read_test(), lambda: prepare(strict, map_here)):
        with pytest.raises(DataError, match=r"1 of 200 rows are refused \(duplicate_id 1\)"):
            judge()
    assert read_manifest(strict.store, strict.layout.data) is None


def test_an_id_in_two_files_of_the_test_set_stops_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, make_rows(60, repeated=1))
    source = make_source(write_jsonl(tmp_path, make_rows(40)))
    run = make_night(
        make_run, source, test=str(folder), duplicates={"leakage": "report", "near": "off", "exact": "report"}
    )
    with pytest.raises(DataError, match=r"1 ids of the test set .* are in several of its files, first 'c0'"):
        prepare(run, map_here)


@pytest.mark.parametrize("write", [write_jsonl, write_packed, write_parquet, write_folder])
def test_rows_with_one_id_four_times_are_dropped_whatever_the_container(
    write: Callable[[Path, list[dict[str, Any]]], Path], make_run: MakeRun, tmp_path: Path
) -> None:
    path = write(tmp_path, make_rows(100, repeated=3))
    run = make_night(make_run, make_source(path))
    if path.name.startswith("rows.jsonl"):
        assert open_reader(run).read_customer(str(path))[2] == 3
    prepare(run, map_here)
    assert read_report(run)["files"]["customer"]["dropped"] == {"duplicate_id": 3}
    assert read_lines(run, "quarantine.jsonl") == []


BROKEN = {
    "not_a_number": b'{"id": "n", "comment": NaN, "segments": []}\n',
    "row_too_large": json.dumps({"id": "l", "comment": "x" * 9000, "segments": []}).encode() + b"\n",
    "truncated_file": b'{"id": "t", "comm',
}


@pytest.mark.parametrize("reason", BROKEN)
def test_preflight_and_prepare_refuse_the_same_broken_row(reason: str, make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(to_jsonl(make_rows(40)) + BROKEN[reason])
    settings = {"max_quarantine_ratio": 0.1, "damaged_files": "report", "max_row_bytes": 4000}
    run = make_night(make_run, make_source(path), **settings)
    (foreseen,) = open_reader(run).read_customer(str(path))[0].rejections
    prepare(run, map_here)
    (refused,) = read_lines(run, "quarantine.jsonl")
    assert (refused["line"], refused["reason"], refused["detail"]) == (41, foreseen.reason, foreseen.detail)
    assert foreseen.reason == reason
