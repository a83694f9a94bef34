"""The rows that both sides of `data_vs_datasets` read: the study corpus, as many rows of it as asked.

    python -m benchmarks.study_rows --rows 15000 --output DIR

Three rows of four are comments, the rest general chats. One comment in 500 is spoiled (a label outside the taxonomy, a segment
that is not in the comment), so that both sides have something to refuse, and the counts can be compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from demo.study.write import GENERAL_ROWS, TRAIN_COMMENTS, make_study_corpus

VOC_SHARE = 0.75
SPOILED_EVERY = 500
TAXONOMY_FILE, VOC_FILE, GENERAL_FILE, TEST_FILE = "taxonomy.csv", "train.jsonl", "general.jsonl", "test.jsonl"


def write_rows(folder: Path, num_rows: int) -> Path:
    """Write taxonomy, test set, comments and general rows into `folder`, unless they are there, and return it.

    Args:
        folder: Where they go; complete when it is there.
        num_rows: Comments and general rows together.
    """
    if folder.is_dir():
        return folder
    num_voc = round(num_rows * VOC_SHARE)
    num_general = num_rows - num_voc
    scale = max(-(-num_voc // TRAIN_COMMENTS), -(-num_general // GENERAL_ROWS))
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=draft.parent) as name:
        corpus = Path(name) / "study"
        make_study_corpus(corpus, scale)
        for kept in (TAXONOMY_FILE, TEST_FILE):
            shutil.copyfile(corpus / kept, draft / kept)
        comments = (_spoil(row, number) for number, row in enumerate(_read_rows(corpus / VOC_FILE, num_voc)))
        _write_lines(draft / VOC_FILE, comments)
        _write_lines(draft / GENERAL_FILE, _read_rows(corpus / GENERAL_FILE, num_general))
    draft.rename(folder)
    return folder


def _read_rows(path: Path, count: int) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, islice(file, count))


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _spoil(row: dict[str, Any], number: int) -> dict[str, Any]:
    if number % SPOILED_EVERY == 7 and row["segments"]:
        field, value = ("L4", "No such leaf") if number // SPOILED_EVERY % 2 else ("content", "not in it")
        row["segments"][0][field] = value
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    print(json.dumps({"rows": str(write_rows(arguments.output, arguments.rows))}))


if __name__ == "__main__":
    main()
