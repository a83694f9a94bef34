from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus.sources.formats import read_split
from corpus.sources.rows import InputSplit
from tests.unit.corpus.sources.read_source import make_row, make_source, name_items, read_items, read_values
from voc.errors import DataError, StoreError
from voc.records.refusals import Rejection

LABEL = {"L1": "Product", "L2": "Battery", "L3": "Use", "L4": "Runtime", "emotion": "joy"}


def write_table(path: Path, table: pa.Table | list[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(table) if isinstance(table, list) else table, path, **options)
    return path


@pytest.mark.parametrize("split_bytes", [1, 3_000, 1 << 30])
def test_row_groups_cut_anyhow_give_the_same_rows(tmp_path: Path, split_bytes: int) -> None:
    rows = [make_row(number) for number in range(100)]
    path = write_table(tmp_path / "rows.parquet", rows, row_group_size=7)
    assert read_values(make_source(path), split_bytes=split_bytes) == rows


def test_nulls_are_keys_that_are_not_there(tmp_path: Path) -> None:
    segment = {"content": "c", **LABEL, "emotion": None}
    rows = [
        {"id": "1", "comment": "c", "segments": [segment], "lang": None},
        {"id": "2", "comment": None, "segments": None, "lang": "de"},
    ]
    first, second = read_values(make_source(write_table(tmp_path / "rows.parquet", rows)))
    assert first == {
        "id": "1",
        "comment": "c",
        "segments": [{key: value for key, value in segment.items() if value is not None}],
    }
    assert second == {"id": "2", "lang": "de"}


def test_times_days_and_whole_numbers_become_texts_where_the_contract_has_texts(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
    table = pa.table(
        {
            "id": [17, 18],
            "comment": ["a", "b"],
            "segments": [[], []],
            "created_at": pa.array([moment, None], pa.timestamp("ns", "UTC")),
            "source": pa.array([date(2026, 11, 24)] * 2),
        }
    )
    first, second = read_values(make_source(write_table(tmp_path / "rows.parquet", table)))
    assert (first["id"], first["created_at"], first["source"]) == ("17", "2026-11-24T08:30:00+00:00", "2026-11-24")
    assert "created_at" not in second


def test_texts_may_be_stored_in_any_way_arrow_has(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array(["1"], pa.large_string()),
            "comment": pa.array(["ä"]).dictionary_encode(),
            "segments": pa.array([b'[{"content": "\xc3\xa4"}]'], pa.binary()).cast(pa.string()),
            "lang": pa.array([b"de"], pa.binary()),
        }
    )
    assert read_values(make_source(write_table(tmp_path / "rows.parquet", table))) == [
        {"id": "1", "comment": "ä", "segments": [{"content": "ä"}], "lang": "de"}
    ]


def test_a_label_that_is_not_a_number_is_refused_and_named(tmp_path: Path) -> None:
    table = pa.table({"id": ["1"], "comment": ["c"], **{key: ["x"] for key in LABEL}, "L3": [float("nan")]})
    (refused,) = read_items(make_source(write_table(tmp_path / "rows.parquet", table)))
    assert isinstance(refused, Rejection)
    assert refused.reason == "not_a_number"
    assert refused.detail.startswith("L3 is nan")


def test_damaged_text_costs_its_row_only(tmp_path: Path) -> None:
    damaged = pa.array([b"good", b"caf\xe9", b"good"], pa.binary()).view(pa.string())
    table = pa.table({"id": ["1", "2", "3"], "comment": damaged, "segments": [[], [], []]})
    first, refused, last = read_items(make_source(write_table(tmp_path / "rows.parquet", table)))
    assert isinstance(refused, Rejection)
    assert (refused.reason, refused.line) == ("encoding", 2)
    assert json.loads(refused.raw)["comment"] == "caf\\xe9"
    assert (first.line, last.line) == (1, 3)


def test_a_time_that_python_cannot_hold_costs_its_row_only(tmp_path: Path) -> None:
    times = pa.array([0, 2**50], pa.int64()).cast(pa.timestamp("ms"))
    table = pa.table({"id": ["1", "2"], "comment": ["c", "c"], "segments": [[], []], "created_at": times})
    assert name_items(read_items(make_source(write_table(tmp_path / "rows.parquet", table))))[1] == "schema"


def test_a_row_that_is_too_large_is_refused(tmp_path: Path) -> None:
    rows = [make_row(0), make_row(3, "x" * 20_000), make_row(6)]
    items = read_items(make_source(write_table(tmp_path / "rows.parquet", rows)))
    assert name_items(items) == [rows[0], "row_too_large", rows[2]]
    assert len(items[1].raw) < 5_000


def test_a_missing_column_is_one_error_that_says_what_there_is_and_what_to_do(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.parquet", [{"id": "1", "text": "c", "segments": []}])
    with pytest.raises(DataError, match=r"no column 'comment'.*columns are 'id', 'text', 'segments'.*setting columns"):
        read_items(make_source(path))
    assert read_values(make_source(path, columns={"comment": "text"})) == [{"id": "1", "comment": "c", "segments": []}]


def test_columns_that_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    row = {**make_row(1), "embedding": [0.5] * 100, "internal": float("nan")}
    assert read_values(make_source(write_table(tmp_path / "rows.parquet", [row]))) == [make_row(1)]


def test_chats_are_read_nested_or_as_json(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    nested = write_table(tmp_path / "a.parquet", [{"messages": turns, "category": "math"}])
    text = write_table(tmp_path / "b.parquet", [{"messages": '[{"role": "user", "content": "q"}]'}])
    assert read_values(make_source(nested, format="general")) == [{"messages": turns, "category": "math"}]
    assert read_values(make_source(text, format="general")) == [{"messages": turns[:1]}]


def make_bytes() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([make_row(number) for number in range(90)]), buffer, row_group_size=30)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [make_bytes()[:-100], b"PAR1 nothing else PAR1", b"x"])
def test_a_file_without_its_footer_is_one_refusal(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(data)
    (refused,) = read_items(make_source(path))
    assert isinstance(refused, Rejection)
    assert refused.reason == "damaged_file"


def test_a_damaged_row_group_says_how_many_rows_it_had_and_the_others_are_read(tmp_path: Path) -> None:
    data = bytearray(make_bytes())
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    start = metadata.row_group(1).column(0).dictionary_page_offset
    data[start : start + 40] = b"\xff" * 40
    path = tmp_path / "rows.parquet"
    path.write_bytes(data)
    items = read_items(make_source(path))
    refused = [item for item in items if isinstance(item, Rejection)]
    assert len(items) == 61
    assert [item.reason for item in refused] == ["damaged_file"]
    assert "30 of 30 rows of row group 1" in refused[0].detail


def test_a_file_that_lost_row_groups_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.parquet", [make_row(0)])
    split = InputSplit("reviews", str(path), "parquet", 0, 3)
    assert name_items(read_split(split, make_source(path), max_row_bytes=9_999)) == [make_row(0), "truncated_file"]


def test_a_store_that_fails_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise StoreError("the connection broke")

    monkeypatch.setattr("corpus.sources.arrow_tables.open_file", lambda uri: Broken(make_bytes()))
    split = InputSplit("reviews", "rows.parquet", "parquet")
    with pytest.raises(StoreError, match="connection broke"):
        list(read_split(split, make_source(tmp_path), max_row_bytes=9_999))
