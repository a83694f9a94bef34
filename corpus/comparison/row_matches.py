"""Which rows of a corpus repeat which: by text, by text and labels, by id, nearly, and the test set.

All arrays have one value per row of the `RowTable` (N). A row's side is the training sources or the test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.comparison.near_duplicates import NUM_PERM, choose_banding, cluster_texts, match_texts
from corpus.comparison.row_groups import RowTable, find_conflicts, find_first_equal, find_first_equal_among
from corpus.comparison.signatures import SignatureTask
from voc.config.data import DuplicatesConfig


@dataclass(frozen=True, slots=True)
class RowMatches:
    """What repeats what.

    Attributes:
        texts: First row of all with the same text.
        side_texts: First row of the side with the same text.
        meanings: First row of the side with the same text and labels.
        ids: First row of the source with the same id; rows without an id stand for themselves.
        is_conflict: True for rows whose text has other labels in another row.
        near: First row of the side's cluster of near duplicates.
        leaked_exact: For training rows, a test row with the same text; -1: none.
        leaked_near: For training rows, a test row that is a near duplicate; -1: none, or the text is equal.
        near_search: How near duplicates were searched, and what was left out.
    """

    texts: np.ndarray
    side_texts: np.ndarray
    meanings: np.ndarray
    ids: np.ndarray
    is_conflict: np.ndarray
    near: np.ndarray
    leaked_exact: np.ndarray
    leaked_near: np.ndarray
    near_search: dict[str, Any]


def match_rows(table: RowTable, tasks: Sequence[SignatureTask], config: DuplicatesConfig, folder: Path) -> RowMatches:
    """Compare all rows with each other; `folder` takes the digests of the distinct texts (512 bytes each)."""
    rows = table.rows
    texts = find_first_equal(rows["text_high"], rows["text_low"])
    side_texts = find_first_equal(texts, table.is_test)
    near, leaked_near = side_texts, np.full(len(rows), -1)
    leaked_exact = _find_exact_leaks(table, texts)
    search: dict[str, Any] = {}
    if config.near != "off":
        near, leaked_near, search = _match_nearly(table, tasks, side_texts, config.near_threshold, folder)
        leaked_near = np.where(leaked_exact < 0, leaked_near, -1)
    return RowMatches(
        texts=texts,
        side_texts=side_texts,
        meanings=find_first_equal(side_texts, rows["labels"]),
        ids=find_first_equal_among(rows["id"] != 0, table.source_numbers, rows["id"]),
        is_conflict=find_conflicts(texts, rows["labels"]),
        near=near,
        leaked_exact=leaked_exact,
        leaked_near=leaked_near,
        near_search=search,
    )


def _find_exact_leaks(table: RowTable, texts: np.ndarray) -> np.ndarray:
    first_test = np.full(len(texts), -1)
    # Of several test rows with one text the first is named, so it is written last.
    for_reference = np.flatnonzero(table.is_test)[::-1]
    first_test[texts[for_reference]] = for_reference
    return np.where(table.is_test, -1, first_test[texts])


def _match_nearly(
    table: RowTable, tasks: Sequence[SignatureTask], side_texts: np.ndarray, threshold: float, folder: Path
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return (near, leaked_near, how it was searched)."""
    (train_rows, train), (test_rows, test) = _gather_digests(tasks, side_texts, folder)
    near, leaked = np.arange(len(side_texts)), np.full(len(side_texts), -1)
    clusters = cluster_texts(train, threshold)
    test_clusters = cluster_texts(test, threshold)
    leaks = match_texts(train, test, threshold)
    near[train_rows] = train_rows[clusters.matches]
    near[test_rows] = test_rows[test_clusters.matches]
    is_leaked = leaks.matches >= 0
    leaked[train_rows[is_leaked]] = test_rows[leaks.matches[is_leaked]]
    banding = choose_banding(threshold)
    search = {
        "threshold": threshold,
        "permutations": NUM_PERM,
        "bands": banding.num_bands,
        "band_rows": banding.band_rows,
        "distinct_texts": len(train_rows) + len(test_rows),
        "compared_pairs": clusters.num_compared + test_clusters.num_compared + leaks.num_compared,
        "capped_rows": clusters.num_capped + test_clusters.num_capped + leaks.num_capped,
        "rows_without_words": int(table.rows.size - np.isin(side_texts, np.append(train_rows, test_rows)).sum()),
    }
    return near[side_texts], leaked[side_texts], search


def _gather_digests(
    tasks: Sequence[SignatureTask], side_texts: np.ndarray, folder: Path
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Put the digests of the distinct texts of each side into one file; a part's own file is removed.

    Returns:
        For the training sources and for the test set: the first row of each text, and the digests (memory-mapped).
    """
    paths = {False: folder / "train.digests", True: folder / "test.digests"}
    chosen: dict[bool, list[np.ndarray]] = {False: [], True: []}
    begin = 0
    with ExitStack() as stack:
        files = {is_test: stack.enter_context(path.open("wb")) for is_test, path in paths.items()}
        for task in tasks:
            rows = begin + np.load(task.path("entries.npy"))
            is_first = side_texts[rows] == rows
            _map_digests(task.path("digests"))[is_first].tofile(files[task.part.is_test])
            chosen[task.part.is_test].append(rows[is_first])
            task.path("digests").unlink()
            begin += task.part.num_rows
    nothing = np.zeros(0, dtype=np.int64)
    train, test = (
        (np.concatenate([nothing, *chosen[is_test]]), _map_digests(paths[is_test])) for is_test in (False, True)
    )
    return train, test


def _map_digests(path: Path) -> np.ndarray:
    """Open a file of digests as (texts, permutations); an empty file cannot be mapped."""
    if path.stat().st_size == 0:
        return np.zeros((0, NUM_PERM), dtype="<u4")
    return np.memmap(path, dtype="<u4", mode="r").reshape(-1, NUM_PERM)
