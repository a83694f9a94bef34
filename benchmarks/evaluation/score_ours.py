"""Our side of `score_vs_sklearn`: `measure_labels` on a number of answers. Prints one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.evaluation.score_rows import ScoreRows, make_rows
from benchmarks.memory import read_pss_bytes
from evaluation.intervals import Bootstrap
from evaluation.suites.voc.label_scores import AVERAGES, count_levels, score_hierarchy, score_sums
from evaluation.suites.voc.resampling import iterate_sums, score_group
from evaluation.suites.voc.summary import assign_buckets, measure_labels, place_buckets
from voc.labels.taxonomy import LEVELS, LabelPath


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--resamples", type=int, required=True)
    parser.add_argument("--checked", type=int, required=True, help="resamples whose figures are printed one by one")
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    rows = make_rows(arguments.rows, arguments.seed)
    buckets = assign_buckets(rows.taxonomy, rows.training_support)
    input_bytes = read_pss_bytes(os.getpid())
    bootstrap = Bootstrap(arguments.resamples, 0.95, arguments.seed)
    wall, cpu = time.perf_counter(), time.process_time()
    measured = measure_labels(rows.predicted, rows.gold, buckets, rows.training_support, bootstrap)
    figures = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    figures |= {"input_pss_bytes": input_bytes, "peak_rss_bytes": _peak_bytes()}
    point: dict[str, Any] = {
        name: {a: list(level[a].values()) for a in AVERAGES} for name, level in measured["levels"].items()
    }
    point["hierarchical"] = [measured["hierarchical"][name] for name in ("precision", "recall", "f1")]
    point["buckets"] = {b["name"]: [b[name] for name in ("precision", "recall", "f1")] for b in measured["buckets"]}
    point["labels"] = {" > ".join(r["label"]): [r["f1"], r["support"]] for r in measured["labels"]}
    print(json.dumps(figures | {"point": point, "resampled": score_resamples(rows, buckets, arguments)}))


def score_resamples(
    rows: ScoreRows, buckets: Mapping[LabelPath, str], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return the figures of the first resamples, outside the measured time."""
    levels = count_levels(rows.predicted, rows.gold)
    places = place_buckets(levels[LEVELS[-1]], buckets)
    found = []
    for sums in iterate_sums(list(levels.values()), Bootstrap(arguments.checked, 0.95, arguments.seed), 1):
        scores = {name: score_sums(level) for name, level in zip(levels, sums, strict=True)}
        one: dict[str, Any] = {name: {a: score[a][0].tolist() for a in AVERAGES} for name, score in scores.items()}
        one["hierarchical"] = score_hierarchy(sums)[0].tolist()
        one["buckets"] = {name: score_group(sums[-1], place)[0].tolist() for name, place in places.items()}
        found.append(one)
    return found


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
