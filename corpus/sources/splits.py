"""Which files a source has tonight, without what is not data or not whole, and the pieces of them that tasks read.

The list is the same on every machine: it depends on the files, the configuration and the watermark alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from corpus.sources.arrow_tables import measure_dataset, resolve_dataset
from corpus.sources.formats import FORMATS, cut_range
from corpus.sources.rows import InputSplit, Range, SourceFile, digest_uri, make_uri
from voc.errors import ConfigError, DataError, StoreError
from voc.importers.acos import SPLITS as ACOS_SPLITS
from voc.records.lines import is_gzip
from voc.store.base import Store, check_key
from voc.store.manifest import MANIFEST_FORMAT, MANIFEST_NAME
from voc.store.uri import open_store, open_uri

if TYPE_CHECKING:
    from voc.config.data import SourceConfig

SPLIT_BYTES = 4 << 20
BEFORE_WATERMARK = "before_watermark"
HALF_UPLOADED = "half_uploaded"
MISSING = "missing_file"
# A manifest says that these should be there and whole: a run that goes on without them goes on without data.
UNFINISHED_UPLOADS = (HALF_UPLOADED, MISSING)
UNFINISHED_NAME = "unfinished_name"
_UNFINISHED_SUFFIXES = (".tmp", ".part", ".crswap", "._copying_")
MapFiles = Callable[[Callable[[str], str], Sequence[str]], Iterable[str]]
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
        skipped: What is not read, as (address, reason). A reason of `corpus.sources.splits.UNFINISHED_UPLOADS` means that
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
    suffix = f"{dot}{suffix}"
    if source.reader == "auto":
        reader = next((name for name, known in FORMATS.items() if suffix and known.auto_suffix == suffix), "")
    else:
        is_known = suffix in FORMATS[source.reader].suffixes
        reader = source.reader if is_known or file.is_single else ""  # one file is meant, whatever it is called
    if not reader or (packed and not FORMATS[reader].can_be_packed):
        return "", "unknown_format"
    splits_of_name = [split for split in ACOS_SPLITS if stem == split or stem.endswith(f"_{split}")]
    if reader == "acos" and not file.is_single and splits_of_name and source.split not in splits_of_name:
        return "", "other_split"  # the test file lies beside the training file
    return reader, ""


def _check_settings(source: SourceConfig, readers: set[str]) -> None:
    problems = []
    with_columns = [name for name, known in FORMATS.items() if known.has_columns]
    if source.columns and readers and not readers & set(with_columns):
        problems.append(f"columns is for {', '.join(with_columns)}; the files are read by {', '.join(sorted(readers))}")
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
    ranges: Iterable[Range] = (
        [(0, None)] if is_gzip(item.file.uri) else FORMATS[item.reader].cut(item.file, source, split_bytes)
    )
    for start, end in ranges:
        yield InputSplit(source.name, item.file.uri, item.reader, start, end, day, is_replay)


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
    ranges = cut_range(num_rows, step)
    return SplitList(tuple(InputSplit(source.name, uri, "datasets", *bounds) for bounds in ranges), (), None, version)


def list_files(uri: str) -> list[SourceFile]:
    """List the files of a source, sorted by path, each with the reason why it is not to be read, if there is one.

    Reasons: `manifest`; `hidden_name` (a name or folder that begins with `.` or `_`, as `_SUCCESS` and Spark's
    `_temporary` do); `unfinished_name` (.tmp, .part, .crswap, ._COPYING_: an upload under way or given up); `empty_file`;
    `unusable_name`. Where one of our manifests lists a file with another size it is `half_uploaded`, and a listed file that
    is not there is `missing_file`. A source that is one file is read whatever its name.
    """
    single = _find_file(uri)
    if single is not None:
        store, key, size = single
        expected = _read_sizes(store, [MANIFEST_NAME] if store.exists(MANIFEST_NAME) else [])
        problem = _find_content_problem(size, expected.get(key))
        return [SourceFile(key, make_uri(store, key), size, problem, is_single=True)]
    store = open_store(uri)
    sizes = dict(store.list_sizes())
    expected = _read_sizes(store, [key for key in sizes if key.rpartition("/")[2] == MANIFEST_NAME])
    found = [
        SourceFile(key, f"{make_uri(store, '')}/{key}", size, _find_problem(key, size, expected.get(key)))
        for key, size in sizes.items()
    ]
    found += [SourceFile(key, make_uri(store, key), 0, MISSING) for key in expected if key not in sizes]
    return sorted(found, key=lambda file: file.path)


def _find_file(uri: str) -> tuple[Store, str, int] | None:
    """Return the store, key and size of a source that is one file."""
    if uri.endswith("/") or (uri.startswith("s3://") and "/" not in uri.removeprefix("s3://")):
        return None
    store, key = open_uri(uri)
    if not store.exists(key):
        return None
    with store.open_stream(key) as stream:
        return store, key, stream.seek(0, 2)


def _find_problem(key: str, size_bytes: int, expected_bytes: int | None) -> str:
    return _find_name_problem(key) or _find_content_problem(size_bytes, expected_bytes)


def _find_name_problem(key: str) -> str:
    parts = key.split("/")
    if parts[-1] == MANIFEST_NAME:
        return "manifest"
    if any(part.startswith((".", "_")) for part in parts):
        return "hidden_name"
    if parts[-1].lower().endswith(_UNFINISHED_SUFFIXES):
        return UNFINISHED_NAME
    try:
        check_key(key)
    except StoreError:  # S3 takes names that are not paths: a//b, and the mark of an empty folder, a/
        return "unusable_name"
    return ""


def _find_content_problem(size_bytes: int, expected_bytes: int | None) -> str:
    if expected_bytes is not None and size_bytes != expected_bytes:
        return HALF_UPLOADED
    return "" if size_bytes else "empty_file"


def _read_sizes(store: Store, manifests: Iterable[str]) -> dict[str, int]:
    """Return the sizes that our manifests list; another program's `manifest.json` lists nothing."""
    sizes: dict[str, int] = {}
    for key in manifests:
        folder = key.removesuffix(MANIFEST_NAME)
        try:
            document: Any = json.loads(store.read_bytes(key))
            if document["format"] == MANIFEST_FORMAT:
                sizes |= {f"{folder}{entry['path']}": int(entry["size_bytes"]) for entry in document["files"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return sizes


def make_nothing_found(uri: str, reasons: str) -> DataError:
    """Return the error for a source without a file to read."""
    return DataError(
        f"{uri} holds no file to read{f' ({reasons})' if reasons else ''}",
        expected="files of a known format: .jsonl, .csv, .tsv (each also .gz) or .parquet",
        remedy="check uri and reader of the source",
    )
