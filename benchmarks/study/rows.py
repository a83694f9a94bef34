"""Writes the study corpus: taxonomy, test set, and as many comments and general rows as asked for.

    python -m benchmarks.study.rows --rows 15000 --output DIR

A stand-in for a private set of customer feedback of the same size and shape: 1,420 leaves, 14,511 + 861 comments, 4,837 general
rows. Rows are a function of the seed and go to disk as they are drawn, so the rows of a smaller corpus are the first rows of a
larger one, and memory does not grow. What the command writes is for benchmarks against a peer: three rows of four are
comments, and one comment in 500 is spoiled (a label outside the taxonomy, a segment that is not in the comment), so that both
sides have something to refuse, and the counts can be compared. `python -m voc mix` draws the card of such a source.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.study.comments import Comment, write_comments
from benchmarks.study.distinct import NearTexts, SeenTexts, split_words
from benchmarks.study.general import write_general
from benchmarks.study.taxonomy import make_taxonomy
from voc.labels.taxonomy import format_taxonomy

TRAIN_COMMENTS, TEST_COMMENTS, GENERAL_ROWS = 14_511, 861, 4_837
SEED = 0
VOC_SHARE = 0.75
SPOILED_EVERY = 500
TAXONOMY_FILE, VOC_FILE, GENERAL_FILE, TEST_FILE = "taxonomy.csv", "train.jsonl", "general.jsonl", "test.jsonl"
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


def draw_comments() -> tuple[list[Comment], Iterator[Comment]]:
    """Return the comments of the test, and those of training without end; none of these is nearly one of the test."""
    seen, avoided = SeenTexts(), NearTexts()
    tests = list(islice(write_comments("test", SEED, seen, NearTexts()), TEST_COMMENTS))
    for comment in tests:
        avoided.add(split_words(comment.record.comment))
    return tests, write_comments("train", SEED, seen, avoided)


def write_corpus(
    folder: Path, num_comments: int = TRAIN_COMMENTS, num_general: int = GENERAL_ROWS, *, spoils: bool = False
) -> Path:
    """Write the four files into a folder, and return it.

    Args:
        folder: Where to write; made if it is not there.
        num_comments: Training comments; the test and the taxonomy have one size.
        num_general: General rows.
        spoils: Whether one training comment in `SPOILED_EVERY` cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TAXONOMY_FILE).write_text(format_taxonomy(make_taxonomy().leaves), encoding="utf-8", newline="")
    tests, trains = draw_comments()
    _write_lines(folder / TEST_FILE, (comment.record.to_json() for comment in tests))
    rows = (comment.record.to_json() for comment in islice(trains, num_comments))
    _write_lines(folder / VOC_FILE, map(_spoil, rows, range(num_comments)) if spoils else rows)
    general = islice(write_general(SEED, SeenTexts()), num_general)
    _write_lines(folder / GENERAL_FILE, (row.to_json() for row in general))
    return folder


def write_rows(folder: Path, num_rows: int) -> Path:
    """Write so many comments and general rows together into a folder as benchmarks against a peer read them."""
    num_comments = round(num_rows * VOC_SHARE)
    return write_corpus(folder, num_comments, num_rows - num_comments, spoils=True)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{_ENCODE(row)}\n" for row in rows)


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
