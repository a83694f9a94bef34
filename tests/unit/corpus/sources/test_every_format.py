"""What holds for all readers: whatever the bytes are, they become rows and refusals, or one named error."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corpus.sources.formats import FORMATS, read_split
from corpus.sources.rows import InputSplit
from tests.unit.corpus.sources.read_source import make_row, make_source, name_items, read_items, to_jsonl
from voc.config.data import ReaderName
from voc.errors import ConfigError, DataError
from voc.records.lines import RawRow
from voc.records.refusals import Rejection

NUM_ROWS = 24
ROWS = [make_row(number, f"die Akkulaufzeit {number * 7919} ist großartig\n🔋") for number in range(NUM_ROWS)]


def make_csv(delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    cells = [[row["id"], row["comment"], json.dumps(row["segments"])] for row in ROWS]
    csv.writer(text, delimiter=delimiter).writerows([["id", "comment", "segments"], *cells])
    return text.getvalue().encode()


def make_parquet(compression: str) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer, row_group_size=7, compression=compression)
    return buffer.getvalue()


def make_chats(make_content: Callable[[str], Any]) -> bytes:
    turns = [("user", "x"), ("assistant", "[]")]
    return to_jsonl([{"messages": [{"role": r, "content": make_content(c)} for r, c in turns]}] * NUM_ROWS)


FILES = {
    "rows.jsonl": ("jsonl", to_jsonl(ROWS)),
    "packed.jsonl.gz": ("jsonl", gzip.compress(to_jsonl(ROWS))),
    "snappy.parquet": ("parquet", make_parquet("snappy")),
    "plain.parquet": ("parquet", make_parquet("none")),
    "rows.csv": ("csv", make_csv()),
    "rows.tsv": ("csv", make_csv("\t")),
    "packed.csv.gz": ("csv", gzip.compress(make_csv())),
    "converse.jsonl": ("converse", make_chats(lambda text: [{"text": text}])),
    "openai.jsonl": ("openai", make_chats(str)),
    "train.tsv": ("acos", b"the battery is bad\t1,2 BATTERY#GENERAL 0 3,4\n" * NUM_ROWS),
}
Mutation = tuple[str, int, bytes]
MUTATIONS = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "cut", "truncate"]), st.integers(0), st.binary(max_size=6)),
    max_size=6,
)


def mutate(data: bytes, mutations: list[Mutation]) -> bytes:
    for kind, place, piece in mutations:
        at = place % (len(data) + 1)
        if kind == "replace":
            data = data[:at] + piece + data[at + len(piece) :]
        elif kind == "insert":
            data = data[:at] + piece + data[at:]
        elif kind == "cut":
            data = data[:at] + data[at + 5 * len(piece) :]
        else:
            data = data[:at]
    return data


def read_any(folder: Any, name: str, data: bytes, **options: Any) -> list[RawRow | Rejection] | None:
    reader, _ = FILES[name]
    path = folder / name
    path.write_bytes(data)
    try:
        return read_items(make_source(path, reader=reader, **options.pop("changes", {})), **options)
    except DataError:
        return None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("split_bytes", [1, 700, 1 << 30])
def test_a_good_file_gives_all_of_its_rows_in_splits_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, name: str, split_bytes: int
) -> None:
    items = read_any(tmp_path_factory.mktemp("good"), name, FILES[name][1], split_bytes=split_bytes)
    assert items is not None
    assert len(items) == NUM_ROWS
    assert {type(item) for item in items} == {RawRow}
    if FILES[name][0] in {"jsonl", "parquet", "csv"}:
        assert name_items(items) == ROWS


@pytest.mark.parametrize("name", FILES)
@given(mutations=MUTATIONS)
def test_a_damaged_file_gives_rows_and_refusals_or_one_named_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, mutations: list[Mutation]
) -> None:
    data = mutate(FILES[name][1], mutations)
    folder = tmp_path_factory.mktemp("damaged")
    for row_format in ("voc", "general") if FILES[name][0] in {"converse", "openai"} else ("voc",):
        items = read_any(folder, name, data, changes={"format": row_format})
        for item in items or []:
            if isinstance(item, Rejection):
                assert item.reason
                json.dumps(item.to_json(), ensure_ascii=False).encode()
            else:
                assert isinstance(item.value, dict)
        if items is not None and FILES[name][0] in {"converse", "openai", "jsonl"} and not name.endswith(".gz"):
            lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
            assert len(items) == sum(bool(line.strip()) for line in lines)


@pytest.mark.parametrize("name", FILES)
@given(data=st.binary(min_size=1, max_size=400))
def test_any_bytes_are_rows_and_refusals_or_one_named_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    read_any(tmp_path_factory.mktemp("any"), name, data)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".jsonl", ".csv", ".tsv"))])
@given(row=st.integers(0, NUM_ROWS - 1), piece=st.sampled_from([b"\xff", b"\x00", b"\xc3\x28"]))
def test_damage_inside_one_row_costs_this_row_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, name: str, row: int, piece: bytes
) -> None:
    data = FILES[name][1]
    marks = {"csv": b"\n\xf0\x9f\x94\x8b", "acos": b"battery"}.get(FILES[name][0], b'"')
    start = -1
    for _ in range(row + 1):
        start = data.index(marks, start + 1)
    if FILES[name][0] not in {"csv", "acos"}:
        start = sum(len(line) for line in data.splitlines(keepends=True)[:row])
    items = read_any(tmp_path_factory.mktemp("one"), name, data[: start + 1] + piece + data[start + 1 :])
    assert items is not None
    assert len(items) == NUM_ROWS
    assert [index for index, item in enumerate(items) if isinstance(item, Rejection)] in ([row], [])


@pytest.mark.parametrize("name", ["packed.jsonl.gz", "packed.csv.gz"])
@given(place=st.integers(30, 10_000))
def test_a_truncated_gzip_file_gives_a_beginning_and_says_that_it_is_one(
    tmp_path_factory: pytest.TempPathFactory, name: str, place: int
) -> None:
    data = FILES[name][1]
    items = read_any(tmp_path_factory.mktemp("cut"), name, data[: min(place, len(data) - 1)])
    if items is not None:
        rows = [item.value for item in items if isinstance(item, RawRow)]
        assert rows == ROWS[: len(rows)]
        refused = name_items(items[len(rows) :])
        assert refused[-1] == "truncated_file"
        assert len(refused) == 1 or FILES[name][0] == "csv"  # there a row of two lines may have lost its second one


UNPACKED = [name for name in FILES if name.endswith((".jsonl", ".csv", ".tsv"))]


@pytest.mark.parametrize("name", UNPACKED)
@given(row=st.integers(3, NUM_ROWS - 1), kept=st.floats(0.1, 0.5))
def test_a_file_that_ends_in_the_middle_of_a_row_says_that_it_was_cut_off(
    tmp_path_factory: pytest.TempPathFactory, name: str, row: int, kept: float
) -> None:
    data = FILES[name][1]
    ends = [place for place, byte in enumerate(data) if byte == 10]
    if FILES[name][0] == "csv":
        ends = ends[::2]  # after the header, every row has two lines
    start, end = ends[row - 1], ends[row]
    cut = start + 2 + int((end - start) * kept)
    assume(data[cut - 1] != 10)  # a row over two lines that lost the second one is an open quote and no half line
    items = read_any(tmp_path_factory.mktemp("half"), name, data[:cut])
    assert items is not None
    num_whole = sum(isinstance(item, RawRow) for item in items)
    assert num_whole == (row if FILES[name][0] != "csv" else row - 1)
    refused = name_items(items[num_whole:])
    assert refused[-1] == "truncated_file"
    assert len(refused) == 1 or FILES[name][0] == "csv"  # there half a row may be two lines


@pytest.mark.parametrize("name", ["snappy.parquet", "plain.parquet"])
@given(mutations=MUTATIONS.filter(bool))
def test_every_row_of_a_parquet_file_is_given_or_counted_as_lost(
    tmp_path_factory: pytest.TempPathFactory, name: str, mutations: list[Mutation]
) -> None:
    whole = FILES[name][1]
    footer = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    data = mutate(whole[:footer], [m for m in mutations if m[0] == "replace"])[:footer] + whole[footer:]
    items = read_any(tmp_path_factory.mktemp("pages"), name, data)
    if items is not None:
        lost = [int(item.detail.split()[0]) for item in items if getattr(item, "reason", "") == "damaged_file"]
        assert len(items) - len(lost) + sum(lost) == NUM_ROWS


def test_a_reader_that_does_not_exist_is_a_named_error() -> None:
    with pytest.raises(ConfigError, match=r"'auto'.*acos, converse, csv"):
        read_split(InputSplit("s", "x", "auto"), make_source("x"), max_row_bytes=1)


def test_every_format_that_a_configuration_may_name_is_registered_and_no_suffix_belongs_to_two() -> None:
    assert {"auto", *FORMATS} == set(get_args(ReaderName))
    suffixes = [known.auto_suffix for known in FORMATS.values() if known.auto_suffix]
    assert len(suffixes) == len(set(suffixes))
