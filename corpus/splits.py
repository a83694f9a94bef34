"""Which files a source has tonight, and the pieces of them that tasks read.

The list is the same on every machine: it depends on the files, the configuration and the watermark alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from corpus.readers.addresses import digest_uri
from corpus.readers.hub import measure_dataset, resolve_dataset
from corpus.readers.lines import is_gzip
from corpus.readers.parquet import list_row_groups
from corpus.rows import InputSplit
from corpus.source_files import UNFINISHED_NAME, UNFINISHED_UPLOADS, SourceFile, list_files, make_nothing_found
from voc.errors import ConfigError, DataError
from voc.importers.acos import SPLITS as ACOS_SPLITS

if TYPE_CHECKING:
    from voc.config.data import SourceConfig

SPLIT_BYTES = 4 << 20
BEFORE_WATERMARK = "before_watermark"
MapFiles = Callable[[Callable[[str], str], Sequence[str]], Iterable[str]]
_AUTO_READERS = {".jsonl": "jsonl", ".parquet": "parquet", ".csv": "csv", ".tsv": "acos"}
_SUFFIXES = {
    "jsonl": (".jsonl",),
    "converse": (".jsonl",),
    "openai": (".jsonl",),
    "parquet": (".parquet",),
    "csv": (".csv", ".tsv"),
    "acos": (".tsv",),
}
_WITH_COLUMNS = ("csv", "parquet", "datasets")
_DAY = re.compile(
    r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?!\d)"
    r"|(?:^|/)(\d{4})/(\d{1,2})/(\d{1,2})/"
    r"|(?:^|/)year=(\d{4})/month=(\d{1,2})/day=(\d{1,2})(?=/)"
)


@dataclass(frozen=True, slots=True)
class SplitList:
    """What tasks read of a source.

    Attributes:
        splits: In the order of the files' paths.
        skipped: What is not read, as (address, reason). A reason of `corpus.source_files.UNFINISHED_UPLOADS` means that
            data is missing which a manifest promises: the run decides whether it goes on.
        newest_day: The watermark that a promoted run leaves behind: the newest day that was read whole. None without
            date_partitions. A day with an upload under way, and the days after it, are not behind the watermark:
            the next night rather reads a row a second time than never.
        dataset_version: Fingerprint of a data set's split, which has no files of ours to digest; else empty.
    """

    splits: tuple[InputSplit, ...]
    skipped: tuple[tuple[str, str], ...]
    newest_day: date | None
    dataset_version: str = ""


@dataclass(frozen=True, slots=True)
class _Chosen:
    file: SourceFile
    reader: str
    day: date | None = None


def list_splits(source: SourceConfig, *, watermark: date | None, split_bytes: int = SPLIT_BYTES) -> SplitList:
    """List the splits of a source.

    Plain JSONL is cut into byte ranges, Parquet into row groups (its footer is read, nothing else), a data set into rows;
    packed files, CSV, TSV, and VOC chats (their ids count lines) are read whole. A file that is not data, not whole or of an
    unknown format is skipped with its reason; a file whose size differs from its folder's manifest is not read either,
    because half of a file looks like a whole one with fewer rows.

    Args:
        source: The source.
        watermark: Newest day that the last promoted run read. Files of that day and before are replayed if the source has a
            replay_ratio, else left out and counted (`before_watermark`).
        split_bytes: About how much one task reads.

    Raises:
        ConfigError: If the settings of the source contradict each other.
        DataError: If no file is left, no day is newer than the watermark, or no path has a day although date_partitions is on.
    """
    if source.reader == "datasets":
        return _list_dataset(source, split_bytes)
    files = list_files(source.uri)
    chosen, skipped = _choose_readers(source, files)
    _check_settings(source, {item.reader for item in chosen})
    newest: date | None = None
    if source.date_partitions and chosen:
        chosen, left_out = _choose_days(source, chosen, watermark)
        newest = _find_newest(chosen, files, watermark)
        skipped += left_out
    if not chosen:
        _check_days(source, skipped, watermark)
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(Counter(r for _, r in skipped).items()))
        raise make_nothing_found(source.uri, counts)
    splits = [split for item in chosen for split in _cut_file(source, item, watermark, split_bytes)]
    return SplitList(tuple(splits), tuple(sorted(skipped)), newest)


def digest_files(splits: SplitList, map_files: MapFiles = map) -> dict[str, str]:
    """Return the SHA-256 of every file that is read (of a data set its fingerprint), by address.

    Args:
        splits: What `list_splits` found.
        map_files: Runs a function over many arguments, in order; `map`, or something that does it on many machines.
    """
    uris = sorted({split.uri for split in splits.splits})
    if splits.dataset_version:
        return dict.fromkeys(uris, splits.dataset_version)
    return dict(zip(uris, map_files(digest_uri, uris), strict=True))


def find_day(path: str) -> date | None:
    """Return the first day that a path names: 2026-11-24, 2026/11/24, date=2026-11-24 or year=2026/month=11/day=24."""
    for match in _DAY.finditer(path):
        year, month, day = (int(group) for group in match.groups() if group is not None)
        try:
            return date(year, month, day)
        except ValueError:
            continue
    return None


def _choose_readers(source: SourceConfig, files: Sequence[SourceFile]) -> tuple[list[_Chosen], list[tuple[str, str]]]:
    chosen, skipped = [], []
    for file in files:
        reader, problem = _choose_reader(source, file)
        if problem:
            skipped.append((file.uri, problem))
        else:
            chosen.append(_Chosen(file, reader))
    return chosen, skipped


def _choose_reader(source: SourceConfig, file: SourceFile) -> tuple[str, str]:
    """Return the reader of a file, or the reason why it has none."""
    if file.problem:
        return "", file.problem
    name = file.path.rpartition("/")[2].lower()
    packed = is_gzip(name)
    stem, dot, suffix = name.removesuffix(".gz").rpartition(".")
    if source.reader == "auto":
        reader = _AUTO_READERS.get(f"{dot}{suffix}", "")
    else:
        is_known = f"{dot}{suffix}" in _SUFFIXES[source.reader]
        reader = source.reader if is_known or file.is_single else ""  # one file is meant, whatever it is called
    if not reader or (reader == "parquet" and packed):
        return "", "unknown_format"
    splits_of_name = [split for split in ACOS_SPLITS if stem == split or stem.endswith(f"_{split}")]
    if reader == "acos" and not file.is_single and splits_of_name and source.split not in splits_of_name:
        return "", "other_split"  # the test file lies beside the training file
    return reader, ""


def _check_settings(source: SourceConfig, readers: set[str]) -> None:
    problems = []
    if source.columns and readers and not readers & set(_WITH_COLUMNS):
        problems.append(
            f"columns is for {', '.join(_WITH_COLUMNS)}; the files are read by {', '.join(sorted(readers))}"
        )
    if source.format == "general" and "acos" in readers:
        problems.append("ACOS files are customer records, but format is general (a table in a .tsv needs reader: csv)")
    if problems:
        raise ConfigError(f"source {source.name}: {'; '.join(problems)}", remedy="correct the source")


def _choose_days(
    source: SourceConfig, chosen: Sequence[_Chosen], watermark: date | None
) -> tuple[list[_Chosen], list[tuple[str, str]]]:
    dated = [_Chosen(item.file, item.reader, find_day(item.file.path)) for item in chosen]
    if all(item.day is None for item in dated):
        raise DataError(
            f"{source.uri} has no file with a day in its path ({dated[0].file.path}, ...)",
            expected="2026-11-24, 2026/11/24, date=2026-11-24 or year=2026/month=11/day=24 below the uri",
            remedy=f"turn off date_partitions of source {source.name}, or move the files",
        )
    skipped = [(item.file.uri, "no_day") for item in dated if item.day is None]
    kept: list[_Chosen] = []
    old: list[_Chosen] = []
    for item in dated:
        if item.day is not None:
            is_old = watermark is not None and item.day <= watermark
            (old if is_old and not source.replay_ratio else kept).append(item)
    if old:
        days = sorted({str(item.day) for item in old})
        skipped.append((f"{source.uri} ({len(old)} files of {days[0]} to {days[-1]})", BEFORE_WATERMARK))
    return kept, skipped


def _check_days(source: SourceConfig, skipped: Sequence[tuple[str, str]], watermark: date | None) -> None:
    """Say so if nothing is left because nothing is new: the files are there and fine."""
    old = [place for place, reason in skipped if reason == BEFORE_WATERMARK]
    if old:
        raise DataError(
            f"source {source.name} has no day after {watermark}, up to which the last promoted run read: {old[0]}",
            expected="a file of a newer day, or a share of the older ones",
            remedy="wait for new data, or set replay_ratio of the source above 0",
        )


def _find_newest(chosen: Sequence[_Chosen], files: Sequence[SourceFile], watermark: date | None) -> date | None:
    """Return the newest day that was read, but none from which on an upload is not finished."""
    days = [item.day for item in chosen if item.day is not None]
    unfinished = [find_day(file.path) for file in files if file.problem in {UNFINISHED_NAME, *UNFINISHED_UPLOADS}]
    open_days = [day for day in unfinished if day is not None and (watermark is None or day > watermark)]
    if open_days:
        last = min(open_days) - timedelta(days=1)
        days = [day for day in days if day <= last]
    return max(days, default=watermark)


def _cut_file(source: SourceConfig, item: _Chosen, watermark: date | None, split_bytes: int) -> Iterator[InputSplit]:
    is_replay = item.day is not None and watermark is not None and item.day <= watermark
    day = None if item.day is None else item.day.isoformat()
    for start, end in _cut(source, item, split_bytes):
        yield InputSplit(source.name, item.file.uri, item.reader, start, end, day, is_replay)


def _cut(source: SourceConfig, item: _Chosen, split_bytes: int) -> Iterator[tuple[int, int | None]]:
    file = item.file
    if item.reader == "parquet":
        yield from _cut_row_groups(list_row_groups(file.uri), split_bytes)
    elif is_gzip(file.uri) or item.reader in {"csv", "acos"}:
        yield 0, None
    elif item.reader == "jsonl" or source.format == "general":
        yield from _cut_range(file.size_bytes, split_bytes)
    else:
        yield 0, file.size_bytes


def _cut_row_groups(sizes: Sequence[int], split_bytes: int) -> Iterator[tuple[int, int | None]]:
    start, size = 0, 0
    for index, group_size in enumerate(sizes):
        if index > start and size + group_size > split_bytes:
            yield start, index
            start, size = index, 0
        size += group_size
    yield start, len(sizes) or None  # a footer that cannot be read has none: the reader says what is wrong


def _cut_range(total: int, step: int) -> Iterator[tuple[int, int]]:
    yield from pairwise([*range(0, total, max(1, step)), total])


def _list_dataset(source: SourceConfig, split_bytes: int) -> SplitList:
    if source.date_partitions:
        raise ConfigError(
            f"source {source.name}: a data set has no path with a day", remedy="turn off date_partitions of the source"
        )
    uri = resolve_dataset(source.uri)
    num_rows, num_bytes, version = measure_dataset(uri, source.split)
    if not num_rows:
        raise DataError(f"the data set {uri} (split {source.split}) has no rows", remedy="check uri and split")
    step = max(1, split_bytes * num_rows // max(num_bytes, 1))
    ranges = _cut_range(num_rows, step)
    return SplitList(tuple(InputSplit(source.name, uri, "datasets", *bounds) for bounds in ranges), (), None, version)
