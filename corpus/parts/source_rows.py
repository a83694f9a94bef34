"""A source as the planning sees it: which of its rows are used, how long they are, and in which files their tokens lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.ground.stored_file import StoredFile, localise
from corpus.parts.ingest import TEST, PartResult
from corpus.parts.part_files import PartFile
from corpus.parts.statistics import PartStatistics
from corpus.sources.rows import InputSplit
from corpus.sources.splits import UNFINISHED_UPLOADS
from voc.config.data import SourceConfig
from voc.errors import DataError
from voc.records.acceptance import DAMAGED_FILES

IntArray = npt.NDArray[np.int64]
Counts = npt.NDArray[np.integer[Any]]

_MAX_LISTED = 5


@dataclass(frozen=True)
class Source:
    """All parts of one source.

    Attributes:
        config: Where it came from.
        splits: What was read.
        skipped: Files that were not read, each with its reason.
        parts: What came of the splits, in order.
        statistics: Counts over all parts.
        watermark: ISO day: what is newer counts as new; None: everything.
        newest_day: ISO day of its newest partition, or None.
    """

    config: SourceConfig
    splits: tuple[InputSplit, ...]
    skipped: tuple[tuple[str, str], ...]
    parts: tuple[PartResult, ...]
    statistics: PartStatistics
    watermark: str | None = None
    newest_day: str | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.config.name

    @cached_property
    def lengths(self) -> np.ndarray:
        """[rows] int32 tokens of each accepted row."""
        return np.concatenate([np.zeros(0, np.int32), *(part.lengths for part in self.parts)])

    @property
    def num_rows(self) -> int:
        """Accepted rows."""
        return len(self.lengths)

    @property
    def num_read(self) -> int:
        """Rows that were read and not left out by the replay share."""
        return sum(part.num_read - part.not_replayed for part in self.parts)

    @property
    def num_replayed(self) -> int:
        """Accepted rows of days up to the watermark."""
        return sum(len(part.lengths) for part in self.parts if part.is_replay)

    def count(self, kind: str) -> Counter[str]:
        """Return the sum of one counter of the parts: `refused`, `notes` or `redacted`."""
        return sum((getattr(part, kind) for part in self.parts), Counter())

    def check_files(self) -> None:
        """Fail if a file is not whole: one refusal stands for any number of rows there, so no share of rows shows it.

        Raises:
            DataError: With the files and what is wrong with each.
        """
        problems = [
            f"{uri}: {reason.replace('_', ' ')}" for uri, reason in self.skipped if reason in UNFINISHED_UPLOADS
        ]
        for part in self.parts:
            reasons = [reason for reason in DAMAGED_FILES if part.refused[reason]]
            problems += [f"{self.splits[part.index].uri}: {reason.replace('_', ' ')}" for reason in reasons]
        if problems:
            raise DataError(
                f"{len(problems)} files of {self.name!r} are not whole: {'; '.join(problems[:_MAX_LISTED])}",
                expected="whole files; what could be read of them, and the rest, is in quarantine.jsonl",
                remedy="upload them again, or set data.damaged_files to report to go on with what can be read",
            )

    def check_quarantine(self, max_ratio: float) -> None:
        """Fail if nothing is left, or too much was refused.

        Raises:
            DataError: With counts by reason and the first refused row.
        """
        refused = self.count("refused")
        num_refused = refused.total()
        if not self.num_read:
            raise DataError(f"{self.config.uri} is empty", expected="at least one row", remedy="check the address")
        if num_refused / self.num_read <= max_ratio and self.num_rows:
            return
        first = next(part for part in self.parts if part.first_refused is not None)
        row, split = first.first_refused, self.splits[first.index]
        where = f"line {row.line}" if row and not split.start else f"line {row.line if row else 0} after {split.start}"
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(refused.items()))
        raise DataError(
            f"{self.config.uri}: {num_refused} of {self.num_read} rows are refused ({counts}); "
            f"the first is {where} of {split.uri}: {row.detail if row else ''}",
            expected=f"at most {max_ratio:.2%} refused (data.max_quarantine_ratio)",
            remedy="correct the rows (quarantine.jsonl has all of them), or raise the share",
        )

    def list_part_files(self) -> list[PartFile]:
        """Return the parts as the comparison of texts reads them, on this machine's disk."""
        files, first_row = [], 0
        for part in self.parts:
            num_rows = len(part.lengths)
            if part.rows is not None and num_rows:
                path = str(localise(part.rows))
                files.append(PartFile(self.name, path, first_row, num_rows, is_test=self.name == TEST))
            first_row += num_rows
        return files


@dataclass(frozen=True, slots=True)
class SourceRows:
    """The figures of a source's usable rows, in source order.

    Attributes:
        tokens: [rows] tokens.
        assistant_tokens: [rows] tokens that are learned.
        categories: [rows] index into `category_names`; empty where the source has no categories.
        category_names: Names of the categories.

    Raises:
        ValueError: If the arrays do not fit each other.
    """

    tokens: Counts
    assistant_tokens: Counts
    categories: Counts = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    category_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        num_rows = len(self.tokens)
        expected = num_rows if self.category_names else 0
        if len(self.assistant_tokens) != num_rows or len(self.categories) != expected:
            raise ValueError(
                f"{num_rows} rows have {len(self.assistant_tokens)} counts of assistant tokens and {len(self.categories)} "
                f"categories of {len(self.category_names)}"
            )
        if any(len(counts) and counts.min() < 0 for counts in (self.tokens, self.assistant_tokens, self.categories)):
            raise ValueError("a row has a negative number of tokens or a negative category")
        if expected and self.categories.max() >= len(self.category_names):
            raise ValueError(f"a row has category {self.categories.max()}, there are {len(self.category_names)} names")

    def select(self, category: str | None) -> IntArray:
        """Return the source's row numbers of a stratum; a row of the stratum is an index into them."""
        if category is None:
            return np.arange(len(self.tokens), dtype=np.int64)
        return np.flatnonzero(self.categories == self.category_names.index(category))


@dataclass(frozen=True)
class UsableRows:
    """The rows of a source that are trained on.

    Attributes:
        source: The source.
        numbers: [usable] int32 row numbers in the source, ascending.
    """

    source: Source
    numbers: np.ndarray

    @cached_property
    def figures(self) -> SourceRows:
        """Lengths and categories of the usable rows."""
        names: dict[str, int] = {}
        codes = [np.zeros(0, np.int32)]
        for part in self.source.parts:
            mapping = np.array([names.setdefault(n, len(names)) for n in part.category_names], dtype=np.int32)
            codes.append(mapping[part.categories] if len(part.categories) else np.zeros(0, np.int32))
        assistant = np.concatenate([np.zeros(0, np.int32), *(part.assistant_lengths for part in self.source.parts)])
        is_general = self.source.config.format == "general"
        return SourceRows(
            self.source.lengths[self.numbers],
            assistant[self.numbers],
            np.concatenate(codes)[self.numbers] if is_general else np.zeros(0, np.int32),
            tuple(names) if is_general else (),
        )

    def select(self, category: str | None) -> np.ndarray:
        """Return the row numbers of one category, or of all."""
        if category is None:
            return self.numbers
        figures = self.figures
        return self.numbers[figures.categories == figures.category_names.index(category)]

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return for row numbers of the source the part they lie in and their row there."""
        parts = np.searchsorted(self.part_starts, numbers, side="right") - 1
        return parts, numbers - self.part_starts[parts]

    @cached_property
    def part_starts(self) -> np.ndarray:
        """[parts + 1] int64 row number of each part's first row, and of the source's end."""
        return np.cumsum([0, *(len(part.lengths) for part in self.source.parts)])

    @property
    def token_files(self) -> list[StoredFile | None]:
        """The token file of each part."""
        return [part.tokens for part in self.source.parts]


def choose_usable(sources: Sequence[Source], dropped: dict[str, np.ndarray]) -> dict[str, UsableRows]:
    """Return what is trained on of each source: everything but the rows that were dropped."""
    usable = {}
    for source in sources:
        keep = np.ones(source.num_rows, dtype=bool)
        keep[np.asarray(dropped.get(source.name, ()), dtype=np.int64)] = False
        usable[source.name] = UsableRows(source, np.flatnonzero(keep).astype(np.int32))
    return usable


def list_token_files(
    usable: Mapping[str, UsableRows], names: Iterable[str]
) -> tuple[tuple[StoredFile, ...], dict[str, int], np.ndarray]:
    """Return the token files of some sources, one after the other.

    Args:
        usable: The rows of all sources, by name.
        names: Which sources; repeats count once.

    Returns:
        The files, the index of each source's first one, and [files] the row number, in its source, of each one's first row.
    """
    files: list[StoredFile] = []
    starts: dict[str, int] = {}
    first_rows = [np.zeros(0, dtype=np.int64)]
    for name in dict.fromkeys(names):
        starts[name] = len(files)
        files += [file for file in usable[name].token_files if file is not None]
        first_rows.append(usable[name].part_starts[:-1])
    return tuple(files), starts, np.concatenate(first_rows)
