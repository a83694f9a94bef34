"""The peer's side of `score_vs_sklearn`: the same figures with scikit-learn, resample by resample. Prints one JSON object.

`loop` calls `precision_recall_fscore_support` once per average, level, bucket and for the tree, as its documentation shows.
`lean` is what somebody would write who knows its inside: one `multilabel_confusion_matrix` per level, from which all averages but
`samples` follow. Both use sparse indicator matrices, made once; a resample is a selection of rows.

Source: https://scikit-learn.org/stable/modules/model_evaluation.html#multiclass-and-multilabel-classification.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import hstack
from sklearn.metrics import multilabel_confusion_matrix, precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from benchmarks.evaluation.score_rows import ScoreRows, make_rows
from evaluation.suites.voc.summary import BUCKET_NAMES, assign_buckets

AVERAGES = ("micro", "macro", "weighted", "samples")
Levels = Mapping[str, tuple[Any, Any]]  # gold and predicted indicator matrices by level
Columns = Mapping[str, np.ndarray]  # columns of the full path by bucket


def binarize(rows: ScoreRows) -> tuple[dict[str, tuple[Any, Any]], list[Any]]:
    """Return (gold, predicted) indicator matrices per level, and the classes of the full path."""
    levels: dict[str, tuple[Any, Any]] = {}
    for depth in (1, 2, 3, 4):
        sides = [[{path[:depth] for path in labels} for labels in side] for side in (rows.gold, rows.predicted)]
        binarizer = MultiLabelBinarizer(sparse_output=True)
        binarizer.fit([set().union(*sides[0]), set().union(*sides[1])])
        levels[f"L{depth}"] = (binarizer.transform(sides[0]), binarizer.transform(sides[1]))
    return levels, list(binarizer.classes_)


def score(y_true: Any, y_pred: Any, average: str, labels: np.ndarray | None = None) -> list[float]:
    if labels is not None and not len(labels):
        return [0.0, 0.0, 0.0]
    found = precision_recall_fscore_support(y_true, y_pred, average=average, labels=labels, zero_division=0)
    return [float(value) for value in found[:3]]


def score_loop(levels: Levels, columns: Columns) -> dict[str, Any]:
    """One call per figure."""
    figures: dict = {}
    for name, (y_true, y_pred) in levels.items():
        supported = np.flatnonzero(np.asarray(y_true.sum(axis=0)).ravel())
        figures[name] = {a: score(y_true, y_pred, a, supported if a == "macro" else None) for a in AVERAGES}
    true_closed, pred_closed = (hstack([pair[side] for pair in levels.values()]).tocsr() for side in (0, 1))
    figures["hierarchical"] = score(true_closed, pred_closed, "micro")
    figures["buckets"] = {name: score(y_true, y_pred, "micro", own) for name, own in columns.items()}
    return figures


def score_lean(levels: Levels, columns: Columns) -> dict[str, Any]:
    """One confusion matrix per level."""
    figures: dict = {}
    tree = np.zeros(3)
    for name, (y_true, y_pred) in levels.items():
        matrix = multilabel_confusion_matrix(y_true, y_pred)
        counts = np.stack([matrix[:, 1, 1], matrix[:, 0, 1], matrix[:, 1, 0]]).astype(float)
        tree += counts.sum(axis=1)
        per_label, support = divide(counts), counts[0] + counts[2]
        figures[name] = {
            "micro": divide(counts.sum(axis=1)).tolist(),
            "macro": per_label[:, support > 0].mean(axis=1).tolist(),
            "weighted": (per_label @ support / support.sum()).tolist(),
            "samples": score(y_true, y_pred, "samples"),
        }
    figures["hierarchical"] = divide(tree).tolist()
    figures["buckets"] = {name: divide(counts[:, own].sum(axis=1)).tolist() for name, own in columns.items()}
    return figures


def divide(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 of (true positives, false positives, false negatives)."""
    hits, extra, missed = counts
    parts = [(hits, hits + extra), (hits, hits + missed), (2 * hits, 2 * hits + extra + missed)]
    return np.stack([np.divide(a, b, out=np.zeros_like(b), where=b > 0) for a, b in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--resamples", type=int, required=True)
    parser.add_argument("--way", choices=("loop", "lean"), required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = make_rows(arguments.rows, arguments.seed)
    buckets = assign_buckets(rows.taxonomy, rows.training_support)
    score_all = score_loop if arguments.way == "loop" else score_lean

    started = time.perf_counter()
    levels, classes = binarize(rows)
    columns = {
        name: np.array([i for i, c in enumerate(classes) if buckets.get(c) == name], int) for name in BUCKET_NAMES
    }
    point = score_all(levels, columns)
    labels = precision_recall_fscore_support(*levels["L4"], average=None, zero_division=0)
    point["labels"] = {" > ".join(c): [float(f), int(s)] for c, f, s in zip(classes, labels[2], labels[3], strict=True)}
    fixed_s = time.perf_counter() - started

    generator = np.random.default_rng(arguments.seed)
    resampled, times = [], []
    for _ in range(arguments.resamples):
        started = time.perf_counter()
        drawn = generator.integers(0, arguments.rows, size=arguments.rows, dtype=np.uint32)
        resampled.append(score_all({name: (t[drawn], p[drawn]) for name, (t, p) in levels.items()}, columns))
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {"fixed_s": fixed_s, "resample_s": times, "peak_rss_bytes": peak}
    print(json.dumps(figures | {"point": point, "resampled": resampled}))


if __name__ == "__main__":
    main()
