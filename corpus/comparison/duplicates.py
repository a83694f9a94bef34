"""Comments that are there more than once: exact and near duplicates, label conflicts, and training rows of the test set.

Two rows are exact duplicates if text (normalised: NFKC, case, white space) and labels are equal, so a general row is never
one of a customer comment. Equal texts with different labels are a label conflict. Near duplicates have other texts, but at
least `data.duplicates.near_threshold` of their word 3-grams in common, as MinHash estimates it; what is near to a member
of a cluster belongs to it. Who stays: the first, in the order of the sources and their rows; the test set loses nothing.

The driver keeps 32 bytes per row and some numbers of 8 bytes; digests (512 bytes per distinct text) are on disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.comparison.near_duplicates import NUM_PERM
from corpus.comparison.row_matches import (
    RowMatches,
    RowTable,
    SignatureTask,
    confirm_leaks,
    find_conflicts,
    find_first_equal,
    find_first_equal_among,
    is_repeated,
    match_rows,
    order_parts,
    read_table,
    write_signatures,
)
from corpus.ground.results import Duplicates
from corpus.ground.tasks import MapParts
from corpus.parts.part_files import PartFile, read_cells
from voc.config.data import DuplicatesConfig
from voc.errors import DataError

REASONS = ("duplicate_id", "leakage_exact", "leakage_near", "label_conflict", "exact_duplicate", "near_duplicate")
"""Why a row is dropped; a row that several fit counts for the first."""

LEAK = np.dtype([("row", "<i8"), ("item", "<i8"), ("is_near", "?")])
_MAX_EXAMPLES = 20
_SHOWN_IN_ERROR = 5


@dataclass(frozen=True, slots=True)
class DuplicateFindings:
    """What was found, and which rows are not used because of it.

    Attributes:
        dropped: Sorted row numbers per source.
        reason_numbers: For each of them, the place of its reason in `REASONS`.
        dropped_reasons: Number of dropped rows per source and reason (`REASONS`).
        found: Number of rows per source and kind, dropped or not. A row counts as `_inside` if its source has another row
            like it before it (a conflict: anywhere), as `_across` if only other sources have one.
        label_conflicts: Up to 20 examples: names of two rows with one text, and their labels.
        leakage: Up to 20 examples: names of a training row and of the test row that it repeats.
        leaks: [leaked rows] of `LEAK` per source with any: each training row of the test set.
        near: How near duplicates were searched, and what was left out.
        groups: Per source, a number for each row that it shares with the rows of all sources that are nearly like it.
    """

    dropped: Mapping[str, np.ndarray]
    reason_numbers: Mapping[str, np.ndarray]
    dropped_reasons: Mapping[str, Mapping[str, int]]
    found: Mapping[str, Mapping[str, int]]
    label_conflicts: Sequence[Mapping[str, Any]]
    leakage: Sequence[Mapping[str, Any]]
    near: Mapping[str, Any]
    leaks: Mapping[str, np.ndarray]
    groups: Mapping[str, np.ndarray]

    def reason_of(self, source: str) -> list[str]:
        """Return the reason of each dropped row of the source, in the order of `dropped`."""
        return [REASONS[number] for number in self.reason_numbers.get(source, ())]

    def to_json(self) -> Duplicates:
        """Return the object of the data report; it holds names of rows and labels, never a comment."""
        return {
            "dropped": {source: dict(counts) for source, counts in self.dropped_reasons.items()},
            "found": {source: dict(counts) for source, counts in self.found.items()},
            "label_conflicts": [dict(example) for example in self.label_conflicts],
            "leakage": [dict(example) for example in self.leakage],
            "near": dict(self.near),
        }


def find_duplicates(
    parts: Sequence[PartFile],
    config: DuplicatesConfig,
    *,
    seed: int,
    work_folder: Path,
    map_parts: MapParts,
) -> DuplicateFindings:
    """Find what is there more than once in the sources and the test set.

    The findings depend on the rows, their order and the seed only: not on the borders of the parts nor on the order in which
    they are read. A `duplicate_id` is dropped whatever the configuration says.

    Args:
        parts: The part files; the order in which the sources appear decides who stays.
        config: What is dropped, and what is only reported.
        seed: Seed of the MinHash permutations.
        work_folder: A folder that all tasks can write to; what is written is removed again.
        map_parts: Runs one task per part.

    Raises:
        DataError: If a part file is damaged, or the parts of a source leave a gap.
    """
    folder = work_folder / "duplicates"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        num_perm = 0 if config.near == "off" else NUM_PERM
        ordered = order_parts(parts)
        tasks = [SignatureTask(i, part, str(folder), num_perm, seed) for i, part in enumerate(ordered)]
        _run_all(map_parts, tasks)
        table = read_table(tasks)
        matches = match_rows(table, tasks, config, folder)
    finally:
        shutil.rmtree(folder)
    matches = confirm_leaks(matches, table, ordered, config.near_threshold)
    reasons = choose_dropped(table, matches, config)
    slices = table.slices
    return DuplicateFindings(
        dropped={name: np.flatnonzero(reasons[rows] >= 0) for name, rows in slices.items()},
        reason_numbers={name: reasons[rows][reasons[rows] >= 0] for name, rows in slices.items()},
        dropped_reasons=_count_by_source(table, {name: reasons == i for i, name in enumerate(REASONS)}),
        found=count_found(table, matches),
        label_conflicts=_show_conflicts(table, matches, ordered),
        leakage=_show_leaks(table, matches, ordered),
        near=matches.near_search,
        leaks=_list_leaks(table, matches),
        groups={name: matches.near[rows] for name, rows in slices.items()},
    )


def _run_all(map_parts: MapParts, tasks: Sequence[SignatureTask]) -> None:
    done = sorted(map_parts(write_signatures, tasks))
    if done != list(range(len(tasks))):
        raise DataError(
            f"{len(done)} of {len(tasks)} part files were compared",
            expected="each of them once",
            remedy="start the stage again",
        )


def choose_dropped(table: RowTable, matches: RowMatches, config: DuplicatesConfig) -> np.ndarray:
    """Decide which rows are not used.

    Each rule looks at the rows that the rules before it left, so of equal rows one stays even if the first of them was
    dropped for another reason.

    Returns:
        Per row, the place of the reason in `REASONS`, or -1.
    """
    reasons = np.full(len(table.rows), -1, dtype=np.int8)

    def drop(reason: str, is_dropped: np.ndarray) -> None:
        reasons[is_dropped & ~table.is_test & (reasons < 0)] = REASONS.index(reason)

    drop("duplicate_id", is_repeated(matches.ids))
    if config.leakage == "drop":
        drop("leakage_exact", matches.leaked_exact >= 0)
        drop("leakage_near", matches.leaked_near >= 0)
    if config.label_conflicts == "drop":
        drop("label_conflict", matches.is_conflict)
    if config.exact == "drop":
        drop("exact_duplicate", is_repeated(find_first_equal_among(reasons < 0, matches.meanings)))
    if config.near == "drop":
        survivors = find_first_equal_among(reasons < 0, matches.near)
        drop("near_duplicate", matches.side_texts[survivors] != matches.side_texts)
    return reasons


def count_found(table: RowTable, matches: RowMatches) -> dict[str, dict[str, int]]:
    """Count per source what was found, whether it is dropped or not."""
    sources = table.source_numbers
    exact = is_repeated(matches.meanings)
    exact_inside = is_repeated(find_first_equal(matches.meanings, sources))
    near = matches.near != matches.side_texts
    first_near = find_first_equal(matches.near, sources)
    near_inside = near & (matches.side_texts[first_near] != matches.side_texts)
    conflict_inside = find_conflicts(find_first_equal(matches.texts, sources), table.rows["labels"])
    return _count_by_source(
        table,
        {
            "duplicate_id": is_repeated(matches.ids),
            "exact_inside": exact_inside,
            "exact_across": exact & ~exact_inside,
            "near_inside": near_inside,
            "near_across": near & ~near_inside,
            "label_conflict_inside": conflict_inside,
            "label_conflict_across": matches.is_conflict & ~conflict_inside,
            "leakage_exact": matches.leaked_exact >= 0,
            "leakage_near": matches.leaked_near >= 0,
        },
    )


def _count_by_source(table: RowTable, kinds: Mapping[str, np.ndarray]) -> dict[str, dict[str, int]]:
    return {
        name: {kind: int(is_so[rows].sum()) for kind, is_so in kinds.items()} for name, rows in table.slices.items()
    }


def _show_conflicts(table: RowTable, matches: RowMatches, parts: Sequence[PartFile]) -> list[dict[str, Any]]:
    rows = np.flatnonzero(matches.is_conflict)
    labels = table.rows["labels"]
    pairs = []
    for text in np.unique(matches.texts[rows])[:_MAX_EXAMPLES]:
        same_text = rows[matches.texts[rows] == text]
        other = same_text[labels[same_text] != labels[same_text[0]]][0]
        pairs.append((same_text[0], other))
    cells = _read_pairs(table, pairs, parts)
    return [{"rows": [row["name"] for row in pair], "labels": [row["labels"] for row in pair]} for pair in cells]


def _show_leaks(table: RowTable, matches: RowMatches, parts: Sequence[PartFile]) -> list[dict[str, Any]]:
    """Name the exact ones first."""
    pairs = []
    for leaked in (matches.leaked_exact, matches.leaked_near):
        pairs += [(row, leaked[row]) for row in np.flatnonzero(leaked >= 0)[:_MAX_EXAMPLES]]
    pairs = pairs[:_MAX_EXAMPLES]
    kinds = ["exact" if matches.leaked_exact[row] >= 0 else "near" for row, _ in pairs]
    cells = _read_pairs(table, pairs, parts)
    return [
        {"row": row["name"], "test_row": test_row["name"], "kind": kind}
        for (row, test_row), kind in zip(cells, kinds, strict=True)
    ]


def _list_leaks(table: RowTable, matches: RowMatches) -> dict[str, np.ndarray]:
    leaked = np.where(matches.leaked_exact >= 0, matches.leaked_exact, matches.leaked_near)
    leaks = {}
    for name, rows in table.slices.items():
        found = np.flatnonzero(leaked[rows] >= 0)
        if len(found):
            leaks[name] = np.zeros(len(found), dtype=LEAK)
            leaks[name]["row"] = found
            leaks[name]["item"] = [table.name_row(int(row))[1] for row in leaked[rows][found]]
            leaks[name]["is_near"] = matches.leaked_exact[rows][found] < 0
    return leaks


def _read_pairs(
    table: RowTable, pairs: Sequence[tuple[int, int]], parts: Sequence[PartFile]
) -> list[list[dict[str, str]]]:
    """Return name and labels of each row of each pair; ids and labels are read again, memory has their hashes only."""
    wanted: dict[str, list[int]] = {}
    for source, row in (table.name_row(row) for pair in pairs for row in pair):
        wanted.setdefault(source, []).append(row)
    cells = read_cells(parts, wanted, ("id", "labels"))

    def describe(row: int) -> dict[str, str]:
        source, number = table.name_row(row)
        cell = cells[source, number]
        name = f"{source} row {number}" + (f" (id {cell['id']})" if cell["id"] else "")
        return {"name": name, "labels": cell["labels"]}

    return [[describe(row) for row in pair] for pair in pairs]


def check_leakage(findings: DuplicateFindings) -> None:
    """Refuse training rows that are in the test set.

    Raises:
        DataError: If there are any; with their numbers and the first of them.
    """
    counts = {
        source: (found["leakage_exact"], found["leakage_near"])
        for source, found in findings.found.items()
        if found["leakage_exact"] or found["leakage_near"]
    }
    if not counts:
        return
    listed = "; ".join(f"{name}: {exact} word for word, {near} nearly" for name, (exact, near) in counts.items())
    shown = ", ".join(f"{leak['row']} repeats {leak['test_row']}" for leak in findings.leakage[:_SHOWN_IN_ERROR])
    raise DataError(
        f"training rows are in the test set ({listed}); the first: {shown}",
        expected="no comment of the test set in a training source, so that scores are of unseen comments",
        remedy="take them out of the source (overlaps.jsonl has all of them), or set data.duplicates.leakage to drop (or "
        "report, if you know why)",
    )
