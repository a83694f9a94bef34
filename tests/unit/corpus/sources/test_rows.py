from __future__ import annotations

from pathlib import Path

import pytest

from corpus.sources.rows import InputSplit, digest_uri, make_id_stem, make_row_id, open_file
from corpus.sources.splits import list_splits
from tests.unit.corpus.sources.read_source import make_source
from voc.store.manifest import digest_bytes


@pytest.mark.parametrize("name", ["rows.jsonl", "a b/c#d?e/100%.jsonl", "ä/ü.jsonl"])
def test_the_address_of_a_listed_file_opens_it_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "the #1 folder" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}\n")
    for uri in (tmp_path / "the #1 folder", tmp_path):
        (split,) = list_splits(make_source(uri), watermark=None).splits
        assert open_file(split.uri).read() == b"{}\n"
        assert digest_uri(split.uri) == digest_bytes(b"{}\n")


@pytest.mark.parametrize(
    ("source", "file", "stem"),
    [
        ("/data", "/data/a.jsonl", "a"),
        ("/data/", "/data/2026/11/24/a.jsonl.gz", "2026/11/24/a"),
        ("/data/a.jsonl", "/data/a.jsonl", "a"),
        ("file:///data", "/data/b/a.b.csv", "b/a.b"),
        ("s3://bucket/raw", "s3://bucket/raw/day/a.jsonl", "day/a"),
        ("s3://bucket", "s3://bucket/a", "a"),
    ],
)
def test_ids_begin_with_the_path_below_the_source(source: str, file: str, stem: str) -> None:
    assert make_id_stem(InputSplit("s", file, "jsonl"), make_source(source)) == stem


def test_ids_end_with_the_line() -> None:
    assert make_row_id("a", 12) == "a-000012"
