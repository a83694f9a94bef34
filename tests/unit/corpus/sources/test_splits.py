from __future__ import annotations

import gzip
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.sources.rows import InputSplit
from corpus.sources.splits import digest_files, find_day, list_splits
from tests.unit.corpus.sources.read_source import make_row, make_source, to_jsonl
from voc.errors import ConfigError, DataError
from voc.store.manifest import digest_bytes

ROW = to_jsonl([make_row(1)])
LAST = date(2026, 11, 23)


def write_files(folder: Path, *names: str, data: bytes = ROW) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def list_names(folder: Path, watermark: date | None = None, **changes: Any) -> list[str]:
    splits = list_splits(make_source(folder, **changes), watermark=watermark).splits
    return [split.uri.removeprefix(f"{folder}/") for split in splits]


def test_files_are_listed_by_path_and_read_as_their_names_say(tmp_path: Path) -> None:
    write_files(tmp_path, "b.jsonl", "a/z.jsonl.gz", "c.csv", "d.csv.gz", "e.TSV")
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "f.parquet")
    found = list_splits(make_source(tmp_path), watermark=None)
    assert [(Path(split.uri).name, split.reader) for split in found.splits] == [
        ("z.jsonl.gz", "jsonl"),
        ("b.jsonl", "jsonl"),
        ("c.csv", "csv"),
        ("d.csv.gz", "csv"),
        ("e.TSV", "acos"),
        ("f.parquet", "parquet"),
    ]
    assert found.skipped == ()
    assert found.newest_day is None
    assert {split.source for split in found.splits} == {"reviews"}


def test_plain_jsonl_is_cut_by_bytes_and_packed_jsonl_and_csv_are_whole(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jsonl", data=ROW * 10)
    write_files(tmp_path, "b.jsonl.gz", data=gzip.compress(ROW * 10))
    write_files(tmp_path, "c.csv", data=b"id\n" * 1000)
    splits = list_splits(make_source(tmp_path), watermark=None, split_bytes=len(ROW) * 4).splits
    size = len(ROW)
    assert [(split.uri[-5:], split.start, split.end) for split in splits] == [
        ("jsonl", 0, size * 4),
        ("jsonl", size * 4, size * 8),
        ("jsonl", size * 8, size * 10),
        ("nl.gz", 0, None),
        ("c.csv", 0, None),
    ]


@pytest.mark.parametrize(("split_bytes", "expected"), [(1, 4), (1 << 30, 1)])
def test_parquet_is_cut_into_row_groups(tmp_path: Path, split_bytes: int, expected: int) -> None:
    pq.write_table(pa.table({"id": list(range(40))}), tmp_path / "a.parquet", row_group_size=10)
    splits = list_splits(make_source(tmp_path), watermark=None, split_bytes=split_bytes).splits
    assert len(splits) == expected
    assert splits[0].start == 0
    assert splits[-1].end == 4


@settings(deadline=None, max_examples=30, database=None)
@given(size=st.integers(1, 500), split_bytes=st.integers(1, 600))
def test_byte_ranges_touch_and_cover_the_file(
    tmp_path_factory: pytest.TempPathFactory, size: int, split_bytes: int
) -> None:
    folder = write_files(tmp_path_factory.mktemp("ranges"), "a.jsonl", data=b"x" * size)
    splits = list_splits(make_source(folder), watermark=None, split_bytes=split_bytes).splits
    bounds = [(split.start, split.end) for split in splits]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == size
    assert all(left[1] == right[0] for left, right in pairwise(bounds))


def test_one_file_is_read_as_the_reader_says_whatever_its_name(tmp_path: Path) -> None:
    write_files(tmp_path, "export", "_rows.jsonl")
    assert [s.reader for s in list_splits(make_source(tmp_path / "export", reader="jsonl"), watermark=None).splits] == [
        "jsonl"
    ]
    assert len(list_splits(make_source(tmp_path / "_rows.jsonl"), watermark=None).splits) == 1
    with pytest.raises(DataError, match="unknown_format 1"):
        list_splits(make_source(tmp_path / "export"), watermark=None)


def test_other_formats_are_skipped_and_said(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jsonl", "readme.md", "b.parquet.gz", "c.csv")
    found = list_splits(make_source(tmp_path, reader="jsonl"), watermark=None)
    assert [Path(split.uri).name for split in found.splits] == ["a.jsonl"]
    assert [(Path(uri).name, reason) for uri, reason in found.skipped] == [
        ("b.parquet.gz", "unknown_format"),
        ("c.csv", "unknown_format"),
        ("readme.md", "unknown_format"),
    ]


def test_the_test_file_beside_an_acos_training_file_is_not_trained_on(tmp_path: Path) -> None:
    write_files(tmp_path, "train.tsv", "test.tsv", "dev.tsv", "more.tsv")
    found = list_splits(make_source(tmp_path), watermark=None)
    assert [Path(split.uri).name for split in found.splits] == ["more.tsv", "train.tsv"]
    assert {reason for _, reason in found.skipped} == {"other_split"}


@pytest.mark.parametrize(
    ("path", "day"),
    [
        ("2026-11-24/a.jsonl", date(2026, 11, 24)),
        ("date=2026-11-24/a.jsonl", date(2026, 11, 24)),
        ("2026/11/24/a.jsonl", date(2026, 11, 24)),
        ("eu/2026/1/2/a.jsonl", date(2026, 1, 2)),
        ("year=2026/month=11/day=24/a.jsonl", date(2026, 11, 24)),
        ("feedback-2026-11-24.jsonl", date(2026, 11, 24)),
        ("2026-11-24/export-2026-11-25.jsonl", date(2026, 11, 24)),
        ("2026-13-45/2026-11-24.jsonl", date(2026, 11, 24)),
        ("2026-02-30/a.jsonl", None),
        ("12026-11-24/a.jsonl", None),
        ("2026/11/a.jsonl", None),
        ("0000/00/00/a.jsonl", None),
        ("a.jsonl", None),
    ],
)
def test_a_day_is_found_in_a_path(path: str, day: date | None) -> None:
    assert find_day(path) == day


DAYS = ("2026-11-22/a.jsonl", "2026-11-23/a.jsonl", "2026-11-24/a.jsonl")


def test_a_night_reads_what_is_newer_than_the_watermark_and_counts_the_rest(tmp_path: Path) -> None:
    write_files(tmp_path, *DAYS)
    found = list_splits(make_source(tmp_path, date_partitions=True), watermark=LAST)
    assert [(split.day, split.is_replay) for split in found.splits] == [("2026-11-24", False)]
    assert found.skipped == ((f"{tmp_path} (2 files of 2026-11-22 to 2026-11-23)", "before_watermark"),)
    assert found.newest_day == date(2026, 11, 24)


def test_the_first_night_reads_every_day(tmp_path: Path) -> None:
    write_files(tmp_path, *DAYS)
    found = list_splits(make_source(tmp_path, date_partitions=True), watermark=None)
    assert [split.is_replay for split in found.splits] == [False] * 3


def test_with_a_replay_share_the_older_days_are_listed_as_replay(tmp_path: Path) -> None:
    write_files(tmp_path, *DAYS)
    found = list_splits(make_source(tmp_path, date_partitions=True, replay_ratio=0.1), watermark=LAST)
    assert [split.is_replay for split in found.splits] == [True, True, False]
    assert found.skipped == ()


def test_a_night_with_replay_only_keeps_the_watermark(tmp_path: Path) -> None:
    write_files(tmp_path, *DAYS[:2])
    found = list_splits(make_source(tmp_path, date_partitions=True, replay_ratio=0.1), watermark=LAST)
    assert found.newest_day == LAST


def test_a_night_without_anything_new_is_an_error_that_counts_what_is_old(tmp_path: Path) -> None:
    write_files(tmp_path, *DAYS[:2])
    with pytest.raises(DataError, match=r"no day after 2026-11-23.*2 files of 2026-11-22"):
        list_splits(make_source(tmp_path, date_partitions=True), watermark=LAST)


def test_a_file_without_a_day_is_skipped_and_a_source_without_any_is_an_error(tmp_path: Path) -> None:
    write_files(tmp_path, *DAYS, "loose.jsonl")
    found = list_splits(make_source(tmp_path, date_partitions=True), watermark=None)
    assert found.skipped == ((str(tmp_path / "loose.jsonl"), "no_day"),)
    write_files(tmp_path / "none", "a.jsonl")
    with pytest.raises(DataError, match=r"no file with a day in its path \(a\.jsonl"):
        list_splits(make_source(tmp_path / "none", date_partitions=True), watermark=None)


def test_the_day_of_the_folder_above_the_source_does_not_count(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "2026-11-24", "a.jsonl")
    with pytest.raises(DataError, match="no file with a day"):
        list_splits(make_source(folder, date_partitions=True), watermark=None)


def test_a_day_whose_upload_is_under_way_is_not_behind_the_watermark(tmp_path: Path) -> None:
    write_files(tmp_path, *DAYS, "2026-11-24/b.jsonl.part")
    found = list_splits(make_source(tmp_path, date_partitions=True), watermark=date(2026, 11, 22))
    assert [split.day for split in found.splits] == ["2026-11-23", "2026-11-24"]
    assert found.newest_day == date(2026, 11, 23)
    # What was left lying about in an old day holds nothing up.
    write_files(tmp_path, "2026-11-20/b.jsonl.part")
    assert list_splits(make_source(tmp_path, date_partitions=True), watermark=date(2026, 11, 22)).newest_day == date(
        2026, 11, 23
    )


@pytest.mark.parametrize("uri", ["nothing", "nothing/", "empty"])
def test_a_source_without_files_is_an_error(tmp_path: Path, uri: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file to read"):
        list_splits(make_source(f"{tmp_path}/{uri}"), watermark=None)


def test_a_source_of_empty_files_says_so(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jsonl", "b.jsonl", data=b"")
    with pytest.raises(DataError, match=r"no file to read \(empty_file 2\)"):
        list_splits(make_source(tmp_path), watermark=None)


def test_settings_that_nothing_uses_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jsonl")
    with pytest.raises(ConfigError, match="columns is for csv, parquet, datasets; the files are read by jsonl"):
        list_splits(make_source(tmp_path, columns={"comment": "text"}), watermark=None)
    write_files(tmp_path / "acos", "train.tsv")
    with pytest.raises(ConfigError, match="ACOS files are customer records"):
        list_splits(make_source(tmp_path / "acos", format="general"), watermark=None)


def test_the_digest_of_what_is_read_names_every_file_once(tmp_path: Path) -> None:
    write_files(tmp_path, "a.jsonl", "b.jsonl", data=ROW * 3)
    splits = list_splits(make_source(tmp_path), watermark=None, split_bytes=10)
    assert digest_files(splits) == {str(tmp_path / name): digest_bytes(ROW * 3) for name in ("a.jsonl", "b.jsonl")}


def test_relative_paths_and_file_uris_name_the_same_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "in put", "a.jsonl")
    monkeypatch.chdir(tmp_path)
    expected = (InputSplit("reviews", str(tmp_path / "in put" / "a.jsonl"), "jsonl", 0, len(ROW)),)
    for uri in ("in put", "in put/a.jsonl", (tmp_path / "in put").as_uri(), (tmp_path / "in put/a.jsonl").as_uri()):
        assert list_splits(make_source(uri), watermark=None).splits == expected
