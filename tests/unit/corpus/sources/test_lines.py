from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.sources.formats import read_split
from corpus.sources.rows import InputSplit
from tests.unit.corpus.sources.read_source import (
    MAX_ROW_BYTES,
    make_row,
    make_source,
    name_items,
    read_items,
    to_jsonl,
)
from voc.errors import DataError, StoreError
from voc.records.lines import RawRow
from voc.records.refusals import Rejection

MEMORY_BYTES = 32 << 20
GOOD = to_jsonl([make_row(0)])


def read_bytes(folder: Path, data: bytes, name: str = "rows.jsonl", **options: Any) -> list[RawRow | Rejection]:
    path = folder / name
    path.write_bytes(data)
    return read_items(make_source(path), **options)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "ROWS.JSONL.GZ"])
def test_rows_come_in_file_order_with_their_line_and_text(tmp_path: Path, name: str) -> None:
    rows = [make_row(number) for number in range(5)]
    data = to_jsonl(rows)
    items = read_bytes(tmp_path, gzip.compress(data) if name.lower().endswith("gz") else data, name)
    assert name_items(items) == rows
    assert [item.line for item in items] == [1, 2, 3, 4, 5]
    assert [item.raw for item in items] == data.decode().splitlines()


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        GOOD.removesuffix(b"\n"),
        GOOD.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + GOOD,
        b"\n \n\t\r\n" + GOOD + b"\n\n",
    ],
    ids=["as it should be", "no last line end", "CRLF", "BOM", "blank lines"],
)
def test_the_habits_of_other_systems_change_nothing(tmp_path: Path, data: bytes) -> None:
    items = read_bytes(tmp_path, data)
    assert name_items(items) == [make_row(0)]
    assert not items[0].raw.endswith("\r")


@pytest.mark.parametrize(
    ("line", "reason", "seen"),
    [
        (b'{"id": "caf\xe9"}', "encoding", "byte 11"),
        (b'{"id": "r1"', "malformed_json", "not JSON"),
        (b"[1, 2]", "schema", "list"),
        (b'"text"', "schema", "str"),
        (b'{"id": NaN}', "not_a_number", "NaN"),
        (b'{"id": [-Infinity]}', "not_a_number", "-Infinity"),
        (b"[" * 100_000, "row_too_large", "100000 bytes"),
        (b"[" * 9_000, "malformed_json", "not JSON"),
        (b'{"id": ' + b"9" * 5_000 + b"}", "malformed_json", "not JSON"),
        (b"\xef\xbb\xbf{}", "malformed_json", "not JSON"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason_and_the_others_are_read(
    tmp_path: Path, line: bytes, reason: str, seen: str
) -> None:
    before, refused, after = read_bytes(tmp_path, GOOD + line + b"\n" + GOOD)
    assert isinstance(refused, Rejection)
    assert (refused.line, refused.reason) == (2, reason)
    assert seen in refused.detail
    assert isinstance(before, RawRow)
    assert isinstance(after, RawRow)
    assert after.line == 3


def test_what_is_not_utf8_is_kept_byte_by_byte_in_the_refusal(tmp_path: Path) -> None:
    (refused,) = read_bytes(tmp_path, b'{"id": "caf\xe9"}\n')
    assert refused.raw == '{"id": "caf\\xe9"}'


def test_a_row_that_is_too_large_is_pointed_at_and_its_beginning_is_kept(tmp_path: Path) -> None:
    large = b'{"comment": "' + b"x" * 50_000 + b'"}\n'
    _, refused, _ = read_bytes(tmp_path, GOOD + large + GOOD)
    assert isinstance(refused, Rejection)
    assert refused.reason == "row_too_large"
    assert f"byte {len(GOOD)} has {len(large) - 1} bytes" in refused.detail
    assert refused.raw == large[:2048].decode()


def test_a_row_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    line = GOOD.removesuffix(b"\n")
    assert [type(item) for item in read_bytes(tmp_path, GOOD, max_row_bytes=len(line))] == [RawRow]
    assert [type(item) for item in read_bytes(tmp_path, GOOD, max_row_bytes=len(line) - 1)] == [Rejection]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.tsv"])
def test_a_line_of_100_mb_is_passed_over_without_being_held(tmp_path: Path, name: str) -> None:
    path, piece = tmp_path / name, b"x" * (1 << 20)
    good = b"id,comment,segments\n1,c,[]\n" if name.endswith("csv") else GOOD
    good = b"good\t-1,-1 BATTERY#GENERAL 2 -1,-1\n" if name.endswith("tsv") else good
    with gzip.open(path, "wb", compresslevel=1) if name.endswith("gz") else path.open("wb") as file:
        file.write(good)
        for _ in range(100):
            file.write(piece)
        file.write(b"\n")
        file.write(good.splitlines(keepends=True)[-1])
    source = make_source(path)
    split = InputSplit("reviews", str(path), {"csv": "csv", "tsv": "acos"}.get(name[-3:], "jsonl"))
    next(read_split(split, source, max_row_bytes=16 << 20))  # what is loaded once is not the row's
    tracemalloc.start()
    try:
        items = list(read_split(split, source, max_row_bytes=16 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [getattr(item, "reason", "") for item in items] == ["", "row_too_large", ""]
    assert str(100 << 20) in items[1].detail
    assert peak < MEMORY_BYTES


def test_a_truncated_gzip_file_gives_every_whole_row_before_the_cut(tmp_path: Path) -> None:
    rows = [make_row(number, f"comment {number * 7919}") for number in range(2_000)]
    packed = gzip.compress(to_jsonl(rows))
    *whole, last = read_bytes(tmp_path, packed[: len(packed) // 2], "rows.jsonl.gz")
    assert 100 < len(whole) < 2_000
    assert name_items(whole) == rows[: len(whole)]
    assert isinstance(last, Rejection)
    assert (last.reason, last.line) == ("truncated_file", len(whole) + 1)
    assert last.raw == to_jsonl(rows[len(whole) : len(whole) + 1]).decode()[: len(last.raw)]


@pytest.mark.parametrize(
    ("last", "reason"),
    [(b'{"id": "r1", "comm', "truncated_file"), (b'{"id": "caf\xc3', "truncated_file"), (b"[1, 2]", "schema")],
    ids=["half a row", "half a letter", "a whole row that is wrong otherwise"],
)
def test_a_last_line_that_is_half_a_row_says_that_the_file_was_cut_off(
    tmp_path: Path, last: bytes, reason: str
) -> None:
    first, refused = read_bytes(tmp_path, GOOD + last)
    assert isinstance(first, RawRow)
    assert isinstance(refused, Rejection)
    assert (refused.line, refused.reason) == (2, reason)
    assert (f"every row before byte {len(GOOD)} was read" in refused.detail) == (reason == "truncated_file")


def test_only_the_checksum_of_a_gzip_file_is_cut_off(tmp_path: Path) -> None:
    items = read_bytes(tmp_path, gzip.compress(GOOD * 3)[:-3], "rows.jsonl.gz")
    assert name_items(items) == [make_row(0)] * 3 + ["truncated_file"]


@pytest.mark.parametrize(
    "data",
    [b"no gzip file", gzip.compress(GOOD)[:-6] + b"wrong!", gzip.compress(GOOD) + b"what follows"],
    ids=["not gzip", "wrong checksum", "something behind it"],
)
def test_a_damaged_gzip_file_is_one_more_refusal(tmp_path: Path, data: bytes) -> None:
    items = read_bytes(tmp_path, data, "rows.jsonl.gz")
    assert [item.reason for item in items if isinstance(item, Rejection)] == ["damaged_file"]


def test_gzip_files_of_several_members_are_one_file(tmp_path: Path) -> None:
    half = len(GOOD) // 2
    data = gzip.compress(GOOD + GOOD[:half]) + gzip.compress(GOOD[half:])
    assert name_items(read_bytes(tmp_path, data, "rows.jsonl.gz")) == [make_row(0)] * 2


def test_a_file_that_became_shorter_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD)
    split = InputSplit("reviews", str(path), "jsonl", 0, len(GOOD) * 2)
    items = list(read_split(split, make_source(path), max_row_bytes=MAX_ROW_BYTES))
    assert name_items(items) == [make_row(0), "truncated_file"]


def test_a_file_that_is_gone_is_an_error_of_the_store(tmp_path: Path) -> None:
    split = InputSplit("reviews", str(tmp_path / "gone.jsonl"), "jsonl")
    with pytest.raises(StoreError, match="gone"):
        list(read_split(split, make_source(tmp_path), max_row_bytes=MAX_ROW_BYTES))


LINES = st.lists(
    st.one_of(
        st.just(GOOD.removesuffix(b"\n")),
        st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"")),
        st.sampled_from([b"", b"\r", b"{}", b"\xef\xbb\xbf{}", b"x" * 60]),
    ),
    max_size=12,
)


@given(lines=LINES, ends_line=st.booleans(), split_bytes=st.integers(1, 200))
def test_splits_of_any_size_give_every_line_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends_line: bool, split_bytes: int
) -> None:
    data = b"\n".join(lines) + b"\n" * ends_line
    if not data:
        return
    folder = tmp_path_factory.mktemp("any")
    whole = read_bytes(folder, data, max_row_bytes=len(GOOD) + 20)
    cut = read_bytes(folder, data, max_row_bytes=len(GOOD) + 20, split_bytes=split_bytes)
    assert name_items(cut) == name_items(whole)
    text = data.removeprefix(b"\xef\xbb\xbf")
    assert len(whole) == sum(bool(line.strip()) for line in text.split(b"\n"))


@given(data=st.binary(max_size=300), name=st.sampled_from(["rows.jsonl", "rows.jsonl.gz"]))
def test_any_bytes_are_rows_or_refusals(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    try:
        items = read_bytes(tmp_path_factory.mktemp("any"), data, name)
    except DataError:
        assert not data
        return
    for item in items:
        if isinstance(item, Rejection):
            json.dumps(item.to_json(), ensure_ascii=False).encode()  # the quarantine can hold it
