"""Rows that no arm draws, so that a loss on them says what a model learns and loses: some of every source and category.

Which rows is a matter of the seed and of the rows alone, not of how they were read. Rows that are nearly alike stay together: a
group of near duplicates is held out whole or not at all, as long as other rows can take its place. Where they cannot (a source of
a few templates), rows are held out nevertheless, and those with a near duplicate left in training are counted.

Source: splits by group as scikit-learn's `GroupShuffleSplit`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from corpus.comparison.contamination import ContaminationFindings
from corpus.comparison.duplicates import DuplicateFindings
from corpus.ground.results import HeldOutFigures, SampleFacts, ShardFacts
from corpus.ground.stored_file import StoredFile
from corpus.mixing.order import derive_key, permute
from corpus.mixing.samples import ShardTask, write_shard
from corpus.parts.source_rows import Source, UsableRows, list_token_files
from voc.errors import DataError
from voc.mixture import Stratum
from voc.store.base import Store
from voc.store.manifest import Manifest, write_manifest

HELD_OUT = "held_out"
FILE_NAME = "rows.arrow"
LEAST_ROWS_PER_HELD_OUT = 10


@dataclass(frozen=True)
class HeldOut:
    """What is held out of one stratum.

    Attributes:
        stratum: A comment source, or a category of a general source.
        format: `voc` or `general`.
        numbers: Row numbers in the source, ascending.
        num_usable: Usable rows of the stratum, these included.
        num_alike: Of these, rows with a near duplicate that is still trained on.
    """

    stratum: Stratum
    format: Literal["voc", "general"]
    numbers: np.ndarray
    num_usable: int
    num_alike: int

    def to_json(self) -> HeldOutFigures:
        """Return its entry in the manifest and in the data report."""
        return {
            "name": self.stratum.source,
            "category": self.stratum.category,
            "format": self.format,
            "usable": self.num_usable,
            "held_out": len(self.numbers),
            "alike_in_training": self.num_alike,
        }


@dataclass(frozen=True)
class Corpus:
    """What a run reads, checked.

    Attributes:
        test: The test set.
        sources: The training sources.
        duplicates: What is there more than once, and which rows are not used for it.
        contamination: What the sources share with the evaluation sets.
        held_out: What no arm draws, for validation.
        usable: The rows that are trained on, per source.
        lists: The files of rows that were refused, and of those that share something with an evaluation set.
    """

    test: Source
    sources: tuple[Source, ...]
    duplicates: DuplicateFindings
    contamination: ContaminationFindings
    held_out: tuple[HeldOut, ...]
    usable: Mapping[str, UsableRows]
    lists: tuple[StoredFile, ...]

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """The test set and the training sources."""
        return (self.test, *self.sources)


def choose_held_out(
    usable: Mapping[str, UsableRows], groups: Mapping[str, np.ndarray], *, rows_per_stratum: int, seed: int
) -> tuple[HeldOut, ...]:
    """Choose the rows to hold out of every source and category.

    Args:
        usable: Usable rows per source.
        groups: [rows] per source, equal for rows that are nearly alike, across sources too.
        rows_per_stratum: How many of each, at most one in ten of its usable rows.
        seed: Seed of the choice.

    Raises:
        DataError: If no stratum has ten usable rows.
    """
    strata = dict(_list_strata(usable))
    budget = [min(rows_per_stratum, len(numbers) // LEAST_ROWS_PER_HELD_OUT) for numbers in strata.values()]
    if not any(budget):
        counts = ", ".join(f"{stratum} {len(numbers)}" for stratum, numbers in strata.items())
        raise DataError(
            f"no row can be held out for validation; usable rows: {counts or 'none'}",
            expected=f"at least {LEAST_ROWS_PER_HELD_OUT} of one source or category",
            remedy="set training.validation.every_steps to 0, or add rows",
        )
    row_groups = [groups[stratum.source][numbers] for stratum, numbers in strata.items()]
    orders = [_order_rows(stratum, len(numbers), seed) for stratum, numbers in strata.items()]
    chosen = choose_rows(row_groups, orders, budget)
    left = np.concatenate([part[~is_chosen] for part, is_chosen in zip(row_groups, chosen, strict=True)])
    return tuple(
        HeldOut(
            stratum,
            usable[stratum.source].source.config.format,
            numbers[is_chosen],
            len(numbers),
            int(np.isin(part[is_chosen], left).sum()),
        )
        for (stratum, numbers), part, is_chosen in zip(strata.items(), row_groups, chosen, strict=True)
    )


def choose_rows(groups: Sequence[np.ndarray], orders: Sequence[np.ndarray], budget: Sequence[int]) -> list[np.ndarray]:
    """Choose rows of each stratum: whole groups first, single rows of larger groups where those do not suffice.

    Args:
        groups: Per stratum, [rows] the group of each row; a group may reach over several strata.
        orders: Per stratum, [rows] its rows in the order in which they are tried.
        budget: Per stratum, how many rows to choose.

    Returns:
        Per stratum, [rows] True for the chosen.
    """
    bounds = np.cumsum([0, *map(len, groups)])
    _, numbers, sizes = np.unique(np.concatenate(groups), return_inverse=True, return_counts=True)
    members, starts = np.argsort(numbers, kind="stable"), np.cumsum([0, *sizes])
    chosen = np.zeros(len(numbers), dtype=bool)
    room = Counter(dict(enumerate(budget)))
    tried = [start + order for start, order in zip(bounds[:-1], orders, strict=True)]
    for stratum, rows in enumerate(tried):
        for row in rows[sizes[numbers[rows]] <= sum(budget)].tolist():
            if not room[stratum]:
                break
            group = members[starts[numbers[row]] : starts[numbers[row] + 1]]
            needed = Counter((np.searchsorted(bounds, group, side="right") - 1).tolist())
            if not chosen[row] and all(count <= room[other] for other, count in needed.items()):
                chosen[group] = True
                room.subtract(needed)
    for stratum, rows in enumerate(tried):
        chosen[rows[~chosen[rows]][: room[stratum]]] = True
    return np.split(chosen, bounds[1:-1])


def take_out(usable: Mapping[str, UsableRows], held_out: Sequence[HeldOut]) -> dict[str, UsableRows]:
    """Return what is left to train on."""
    taken: dict[str, list[np.ndarray]] = defaultdict(list)
    for part in held_out:
        taken[part.stratum.source].append(part.numbers)
    return {
        name: UsableRows(rows.source, np.setdiff1d(rows.numbers, np.concatenate(taken[name]), assume_unique=True))
        if taken[name]
        else rows
        for name, rows in usable.items()
    }


def count_by_source(held_out: Sequence[HeldOut]) -> Counter[str]:
    """Return how many rows are held out of each source."""
    return sum((Counter({part.stratum.source: len(part.numbers)}) for part in held_out), Counter())


def write_held_out(
    held_out: Sequence[HeldOut],
    usable: Mapping[str, UsableRows],
    store: Store,
    prefix: str,
    *,
    inputs: Mapping[str, Any],
) -> Manifest:
    """Write the held-out rows as an arm's samples are, one record batch per stratum, and the manifest last.

    A row's `share` is the place of its stratum in the manifest's `strata`; `SampleReader` reads stratum after stratum as it reads
    steps.
    """
    parts = [part for part in held_out if len(part.numbers)]
    token_files, starts, first_rows = list_token_files(usable, [part.stratum.source for part in parts])
    files, rows = [], []
    for part in parts:
        of_part, places = usable[part.stratum.source].locate(part.numbers)
        files.append(starts[part.stratum.source] + of_part)
        rows.append(places)
    sizes = np.array([len(part.numbers) for part in parts], dtype=np.int64)
    total = int(sizes.sum())
    task = ShardTask(
        store.uri, prefix, FILE_NAME, token_files, first_rows, np.concatenate(files), np.concatenate(rows),
        np.repeat(np.arange(len(parts), dtype=np.int32), sizes), np.full(total, -1, dtype=np.int32), sizes,
    )  # fmt: skip
    store.delete_prefix(prefix)
    shard: ShardFacts = {
        "path": FILE_NAME,
        "first_step": 0,
        "end_step": len(parts),
        "first_sample": 0,
        "end_sample": total,
    }
    facts: SampleFacts = {"shards": [shard], "strata": [part.to_json() for part in parts]}
    manifest = Manifest((write_shard(task).entry,), dict(inputs), dict(facts))
    write_manifest(store, prefix, manifest)
    return manifest


def _list_strata(usable: Mapping[str, UsableRows]) -> Iterator[tuple[Stratum, np.ndarray]]:
    """Yield each stratum with its row numbers."""
    for name, rows in usable.items():
        for category in rows.figures.category_names or (None,):
            yield Stratum(name, category), rows.select(category)


def _order_rows(stratum: Stratum, num_rows: int, seed: int) -> np.ndarray:
    if not num_rows:
        return np.zeros(0, dtype=np.int64)
    return permute(np.arange(num_rows), num_rows, derive_key(seed, "validation", stratum.source, stratum.category))
