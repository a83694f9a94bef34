"""What preflight says about data is what `prepare` will do with it, whatever the container."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest

from tests.unit.voc.conftest import Night, voc_row
from voc.config.file import load_config
from voc.errors import PreflightError
from voc.preflight import data as data_checks
from voc.preflight.preflight import run_preflight


def find_details(night: Night) -> dict[str, str]:
    return {finding.subject: finding.detail for finding in run_preflight(load_config(night.config_path), "r1").findings}


def find_problem(night: Night) -> str:
    with pytest.raises(PreflightError) as caught:
        run_preflight(load_config(night.config_path), "r1")
    return str(caught.value)


def write_plain(night: Night, data: bytes) -> None:
    night.path("customer.jsonl").write_bytes(data)


def write_packed(night: Night, data: bytes) -> None:
    night.path("customer.jsonl.gz").write_bytes(gzip.compress(data))
    night.tree["data"]["sources"][0]["uri"] = str(night.path("customer.jsonl.gz"))


def to_jsonl(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


CONTAINERS = pytest.mark.parametrize("write", [write_plain, write_packed], ids=["plain", "gzip"])
Write = Callable[[Night, bytes], None]


@CONTAINERS
def test_a_repeated_training_id_is_dropped_and_counts_against_nothing(night: Night, write: Write) -> None:
    rows = [voc_row(f"c{max(i, 3)}", f"battery {i}") for i in range(100)]  # c3 four times
    write(night, to_jsonl(rows))
    assert find_details(night)["data.sources.customer"].endswith("97 rows, 3 more repeat an id and are dropped")


def test_a_repeated_test_id_is_a_refused_row_and_counts_against_the_limit(night: Night) -> None:
    rows = [voc_row(f"t{max(i, 1)}", f"battery {i}") for i in range(200)]  # t1 twice
    night.write_jsonl("test.jsonl", rows)
    assert find_details(night)["data.test"].endswith("199 rows, refused: duplicate_id 1")
    night.write_jsonl("test.jsonl", rows[:20])
    assert "1 of 20 rows are refused (duplicate_id 1)" in find_problem(night)


@CONTAINERS
@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b'{"id": "x", "comment": "a battery", "segments": [], "n": NaN}\n', "not_a_number 1"),
        (b'{"id": "x", "id": "y", "comment": "a battery", "segments": []}\n', "duplicate_key 1"),
        (json.dumps({"id": "x", "comment": "b" * 5000, "segments": []}).encode() + b"\n", "row_too_large 1"),
        (b'{"id": "x", "comment": "a bat', "is not whole: the file ends in the middle of a row"),
    ],
    ids=["NaN", "a key twice", "too large", "cut off"],
)
def test_what_the_reader_of_prepare_refuses_preflight_refuses(
    night: Night, write: Write, bad: bytes, problem: str
) -> None:
    night.tree["data"]["max_row_bytes"] = 4000
    write(night, to_jsonl([voc_row(f"c{i}", f"battery {i}") for i in range(9)]) + bad)
    assert problem in find_problem(night)


def test_a_packed_file_that_is_cut_off_is_not_whole_unless_that_is_only_reported(night: Night) -> None:
    rows = [voc_row(f"c{i}", f"battery {i * 7919}") for i in range(500)]
    write_packed(night, to_jsonl(rows))
    path = night.path("customer.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-40])
    assert "is not whole: the gzip file ends in the middle" in find_problem(night)
    night.tree["data"]["damaged_files"] = "report"
    assert "refused: truncated_file 1" in find_details(night)["data.sources.customer"]


@CONTAINERS
def test_of_a_large_file_the_first_rows_are_read_and_the_rest_is_not_claimed(
    night: Night, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_checks, "MAX_READ_BYTES", 1000)
    rows = [voc_row(f"c{i}", f"battery {i}") for i in range(100)]
    write(night, to_jsonl(rows) + b"{\n")
    size = len(to_jsonl(rows[:1]))
    found = find_details(night)["data.sources.customer"]
    assert f"the first {-(-1000 // size)} rows; the others were not looked at" in found


@pytest.mark.parametrize(
    ("name", "setting", "reason"),
    [
        ("rows.parquet", {}, "it is not one file of JSON lines"),
        ("day/rows.jsonl", {"uri": "day"}, "it is not one file of JSON lines"),
        ("rows.jsonl", {"reader": "openai"}, "it is read as openai"),
    ],
)
def test_what_was_not_looked_into_is_said(night: Night, name: str, setting: dict[str, str], reason: str) -> None:
    path = night.path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"whatever")
    source = night.tree["data"]["sources"][0]
    source.update({"uri": name, **setting})
    source["uri"] = str(night.path(source["uri"]))
    found = find_details(night)["data.sources.customer"]
    assert f"not looked into, because {reason}: its rows are read and checked by `prepare`" in found


def test_languages_that_preflight_cannot_detect_are_said_to_be_unchecked(night: Night) -> None:
    night.tree["data"]["languages"] = ["en"]
    assert find_details(night)["data.test"].endswith("languages were not checked: `prepare` does it")
