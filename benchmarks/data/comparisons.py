"""How long the comparison of texts takes: duplicates, label conflicts, leakage, contamination of the evaluation sets.

    python -m benchmarks.data.comparisons --rows 1500000 --mmlu FOLDER

Rows are the study corpus (`benchmarks.study.rows`), written once as the part files that `prepare` compares; that is not timed.
The time is that of `find_duplicates` and `find_contamination` on two cores as they run by default, the start of workers
included. There is no peer here: the question is whether it stays within fifteen minutes. The last line is one JSON object with
all figures.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.sides import make_rows
from benchmarks.study.rows import GENERAL_FILE, TEST_FILE, VOC_FILE
from corpus.comparison.contamination import find_contamination, read_evaluation_sets
from corpus.comparison.duplicates import find_duplicates
from corpus.ground.tasks import MapParts, TaskRunner, keep_here
from corpus.parts.part_files import PartFile, PartRow, writing_part
from voc.config.data import ContaminationConfig, DuplicatesConfig
from voc.models.folder import cache_folder

PART_ROWS = 5_000


def write_parts(rows: Path, folder: Path) -> list[PartFile]:
    """Write the rows as part files, the test set first."""
    shutil.rmtree(folder, ignore_errors=True)
    parts: list[PartFile] = []
    for source, name in (("test", TEST_FILE), ("customer", VOC_FILE), ("general", GENERAL_FILE)):
        with (rows / name).open(encoding="utf-8") as file:
            lines = map(json.loads, file)
            first_row = 0
            while batch := [_to_row(row) for row in islice(lines, PART_ROWS)]:
                path = folder / source / f"part-{first_row // PART_ROWS:05d}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                with writing_part(path, None) as writer:
                    for start in range(0, len(batch), 512):
                        writer.write(batch[start : start + 512], [])
                parts.append(PartFile(source, str(path), first_row, len(batch), is_test=source == "test"))
                first_row += len(batch)
    return parts


def _to_row(row: dict[str, Any]) -> PartRow:
    if "messages" in row:
        return PartRow("", "\n".join(m["content"] for m in row["messages"]), "", row["category"], "", "")
    labels = sorted([s["L1"], s["L2"], s["L3"], s["L4"], s["emotion"]] for s in row["segments"])
    return PartRow(row["id"], row["comment"], json.dumps(labels, ensure_ascii=False), "", "", "")


def compare(parts: Sequence[PartFile], mmlu: str, map_parts: MapParts) -> dict[str, Any]:
    """Run both comparisons and return their times and what they found."""
    with tempfile.TemporaryDirectory(prefix="nightforge-comparisons-") as name:
        folder = Path(name)
        start = time.time()
        duplicates = find_duplicates(
            parts, DuplicatesConfig(leakage="report"), seed=0, work_folder=folder, map_parts=map_parts
        )
        duplicates_s = time.time() - start
        sets = read_evaluation_sets([part for part in parts if part.is_test], mmlu)
        start = time.time()
        contamination = find_contamination(
            parts, sets, ContaminationConfig(), dropped=duplicates.dropped, work_folder=folder, map_parts=map_parts
        )
        contamination_s = time.time() - start
    return {
        "rows": sum(part.num_rows for part in parts),
        "parts": len(parts),
        "duplicates_s": round(duplicates_s, 1),
        "contamination_s": round(contamination_s, 1),
        "found": duplicates.to_json()["found"],
        "near": duplicates.to_json()["near"],
        "overlaps": [
            {key: value for key, value in overlap.items() if key != "examples"}
            for overlap in contamination.to_json()["overlaps"]
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--mmlu", required=True, help="folder with test.parquet, or a hub data set id")
    parser.add_argument("--on-ray", action="store_true", help="on Ray, Ray's start included")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    parts = write_parts(make_rows(arguments.rows), cache_folder() / "benchmarks" / "comparison-parts")
    with TaskRunner(on_ray=arguments.on_ray) as runner:
        figures = compare(parts, arguments.mmlu, keep_here(runner))
    for name, whose in (("driver", resource.RUSAGE_SELF), ("worker", resource.RUSAGE_CHILDREN)):
        figures[f"{name}_peak_rss_mib"] = resource.getrusage(whose).ru_maxrss // 1024  # a worker's when it has ended
    for name, value in figures.items():
        print(f"{name}: {json.dumps(value)}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
