from __future__ import annotations

from pathlib import Path

from tests.unit.corpus.sources.read_source import make_source, name_items, read_items, read_values
from voc.importers.acos import import_acos

LINES = (
    b"the battery is great\t1,2 BATTERY#GENERAL 2 3,4\n"
    b"no quadruple\n"
    b"screen bad and keyboard good\t0,1 DISPLAY#QUALITY 0 1,2\t3,4 KEYBOARD#QUALITY 2 4,5\r\n"
)


def test_a_folder_with_the_files_of_a_corpus_gives_what_its_import_gives(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_bytes(LINES)
    corpus = import_acos(tmp_path)
    items = read_items(make_source(tmp_path))
    records = [record.to_json() for record in corpus.records["train"]]
    assert name_items(items) == [records[0], "no_quadruple", records[1]]
    assert records[0]["id"] == "train-000001"


def test_another_split_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "laptop_train.tsv").write_bytes(LINES)
    (tmp_path / "laptop_dev.tsv").write_bytes(b"fine\t-1,-1 LAPTOP#GENERAL 2 -1,-1\n")
    (row,) = read_values(make_source(tmp_path, split="dev"))
    assert row["id"] == "laptop_dev-000001"


def test_bom_blank_lines_and_a_missing_last_line_end_count_as_the_importer_counts_them(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + LINES + b"\n" + LINES.removesuffix(b"\r\n")
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_bytes(data)
    corpus = import_acos(tmp_path)
    items = read_items(make_source(tmp_path))
    assert len(items) == corpus.num_lines["train"]
    refused = [(entry["line"], entry["reason"]) for entry in corpus.quarantine if entry["file"] == "train.tsv"]
    assert [(item.line, item.reason) for item in items if hasattr(item, "reason")] == refused
