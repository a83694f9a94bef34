"""The checks of `voc.preflight.preflight` that look at data: what can be seen in seconds, without a tokenizer.

Rows are read and judged as `prepare` reads and judges them (`voc.records.acceptance`). The test set is read as a whole, and so
is a source that is one file of JSON lines, packed or not, of moderate size. Of a larger one the first rows are read. Into
folders, prefixes and other formats preflight does not look: it sees that there are files, and its finding says so. `prepare`
reads and checks everything, before an accelerator is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from voc.config.arms import ArmConfig
from voc.config.data import DataConfig, SourceConfig
from voc.config.night import NightforgeConfig
from voc.errors import ObjectNotFoundError, TaxonomyError
from voc.labels.changes import parse_changes
from voc.labels.taxonomy import parse_taxonomy
from voc.mixture import Stratum, plan_mixture
from voc.records.acceptance import (
    DUPLICATE_ID,
    Accepted,
    AnyRecord,
    RepeatedIds,
    RowRules,
    accept_rows,
    check_damage,
    check_quarantine,
)
from voc.records.lines import Line, is_gzip, read_lines, read_objects
from voc.records.records import VocRecord
from voc.records.refusals import Rejection
from voc.store.uri import open_uri, read_uri

MAX_READ_BYTES = 8 << 20

Record = TypeVar("Record", bound=AnyRecord)


class RowReader:
    """Reads files of rows as `prepare` will, but for the language of a comment: its model is not in every environment."""

    def __init__(self, data: DataConfig, rules: RowRules) -> None:
        """Take the rules of a run.

        Args:
            data: The data section.
            rules: What is done with a row; of the test set and customer sources only if it has a taxonomy.
        """
        self._data = data
        self._rules = rules
        self.has_taxonomy = rules.taxonomy is not None

    def read_test(self) -> Accepted[VocRecord]:
        """Read the whole test set; a repeated id is a refused row.

        Raises:
            DataError: If the test set is empty, not whole, or more of it is refused than allowed.
        """
        accepted, _ = self._read(self._data.test, self._accept_once(), None)
        self._check(accepted, self._data.test)
        return accepted

    def read_customer(self, uri: str) -> tuple[Accepted[VocRecord], bool, int]:
        """Read the beginning of a file of customer records.

        Returns:
            Its rows, whether that was the whole file, and how many rows have an id that an earlier one has: `prepare` drops them.

        Raises:
            DataError: If it is empty, not whole, or more of it is refused than allowed.
        """
        accepted, is_whole = self._read(uri, self._accept_once(), MAX_READ_BYTES)
        kept = tuple(refused for refused in accepted.rejections if refused.reason != DUPLICATE_ID)
        num_repeated = len(accepted.rejections) - len(kept)
        accepted = Accepted(accepted.rows, kept)
        self._check(accepted, uri)
        return accepted, is_whole, num_repeated

    def read_general(self, source: SourceConfig) -> tuple[Accepted[Any], bool]:
        """Read the beginning of a file of general rows, and tell whether that was the whole file.

        Raises:
            DataError: If it is empty, not whole, or more of it is refused than allowed.
        """
        accepted, is_whole = self._read(
            source.uri, lambda value: self._rules.accept_general(value, source.category), MAX_READ_BYTES
        )
        self._check(accepted, source.uri)
        return accepted, is_whole

    def _accept_once(self) -> Callable[[dict[str, Any]], VocRecord]:
        ids = RepeatedIds()

        def accept(value: dict[str, Any]) -> VocRecord:
            record = self._rules.accept_voc(value)
            ids.check(record)
            return record

        return accept

    def _read(
        self, uri: str, accept: Callable[[dict[str, Any]], Record], max_bytes: int | None
    ) -> tuple[Accepted[Record], bool]:
        """Read a file, or its lines that begin in its first bytes; refusals hold no personal data that is redacted."""
        store, key = open_uri(uri)
        with store.open_stream(key) as file:
            lines = read_lines(file, is_packed=is_gzip(uri), max_row_bytes=self._data.max_row_bytes)
            head = _Head(lines, max_bytes)
            accepted = accept_rows(read_objects(head, self._data.max_row_bytes), accept)
        refused = tuple(self._rules.redact_rejection(row) for row in accepted.rejections)
        return Accepted(accepted.rows, refused), head.is_whole

    def _check(self, accepted: Accepted[Any], origin: str) -> None:
        if self._data.damaged_files == "error":
            check_damage(accepted, origin)
        check_quarantine(accepted, origin, self._data.max_quarantine_ratio)


class _Head:
    """The lines that begin in the first bytes of a file (None: all of them), and whether there are no others."""

    def __init__(self, lines: Iterator[Line | Rejection], max_bytes: int | None) -> None:
        self._lines = lines
        self._max_bytes = max_bytes
        self.is_whole = True

    def __iter__(self) -> Iterator[Line | Rejection]:
        for line in self._lines:
            if self._max_bytes is not None and isinstance(line, Line) and line.offset >= self._max_bytes:
                self.is_whole = False
                return
            yield line


def check_taxonomy(data: DataConfig) -> tuple[RowReader, str]:
    """Read the taxonomy and its changes.

    Raises:
        TaxonomyError: If one is broken.
        ObjectNotFoundError: If one is not there.
    """
    taxonomy = parse_taxonomy(_read_text(data.taxonomy), data.taxonomy)
    changes = None
    if data.taxonomy_changes is not None:
        changes = parse_changes(_read_text(data.taxonomy_changes), data.taxonomy_changes, taxonomy)
    rules = RowRules(data, taxonomy, changes, check_languages=False)
    return RowReader(data, rules), f"{data.taxonomy}: {len(taxonomy.leaves)} leaves"


def check_test(data: DataConfig, reader: RowReader | None) -> tuple[frozenset[str], str]:
    """Read the whole test set and return its comments.

    Raises:
        DataError: If it is empty, not whole, or more of it is refused than allowed.
    """
    if reader is None:
        return frozenset(), _look_without_taxonomy(data.test)
    accepted = reader.read_test()
    return _comments(accepted), _describe_rows(data.test, accepted) + _describe_languages(data)


def check_source(
    source: SourceConfig, data: DataConfig, reader: RowReader | None, test_comments: frozenset[str]
) -> tuple[dict[Stratum, int] | None, str]:
    """Look at a training source; if it was read as a whole, return how many rows are usable, per category if it has any.

    Raises:
        DataError: If it is empty, not whole, or more of it is refused than allowed.
    """
    unread = _find_reason_not_to_read(source)
    if unread:
        return None, _describe_files(source, unread)
    if source.format == "general":
        general, is_whole = (reader or RowReader(data, RowRules(data, None))).read_general(source)
        counts = Counter(Stratum(source.name, row.category) for row in general.rows)
        return (dict(counts) if is_whole else None), _describe_rows(source.uri, general, is_whole=is_whole)
    if reader is None:
        return None, _look_without_taxonomy(source.uri)
    accepted, is_whole, num_repeated = reader.read_customer(source.uri)
    also = f", {num_repeated} more repeat an id and are dropped" if num_repeated else ""
    shared = len(_comments(accepted) & test_comments)
    also += f", {shared} comments are also in the test set" if shared else ""
    counts = Counter({Stratum(source.name): len(accepted.rows)})
    said = _describe_rows(source.uri, accepted, is_whole=is_whole) + also + _describe_languages(data)
    return (dict(counts) if is_whole else None), said


def _read_text(uri: str) -> str:
    try:
        return read_uri(uri).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"{uri} is not UTF-8: {error.reason} at byte {error.start}") from error


def check_arm(arm: ArmConfig, config: NightforgeConfig, num_rows: Mapping[Stratum, int]) -> tuple[None, str]:
    """Plan the arm's mixture by rows; weights in tokens are planned by `prepare`, which has the tokenizer.

    Raises:
        MixtureError: If the mixture cannot be drawn.
    """
    num_samples = config.training.max_steps * config.training.global_batch_size
    plan = plan_mixture(num_rows, arm.sources, num_samples=num_samples, seed=config.seed)
    if arm.unit != "samples" or config.training.batch_unit == "rows":
        shares = ", ".join(f"{s.stratum} {s.weight:.1%}" for s in plan.shares)
        return None, f"{num_samples} {config.training.batch_unit}, shared by {arm.unit.replace('_', ' ')}: {shares}"
    shares = ", ".join(f"{s.stratum} {s.num_samples} ({s.epochs:.2f} passes)" for s in plan.shares)
    return None, f"{num_samples} samples: {shares}"


def _comments(accepted: Accepted[VocRecord]) -> frozenset[str]:
    return frozenset(record.comment for record in accepted.rows)


def _describe_rows(uri: str, accepted: Accepted[Any], *, is_whole: bool = True) -> str:
    refused = ", ".join(f"{reason} {count}" for reason, count in accepted.counts.items())
    head = "" if is_whole else "the first "
    rest = "" if is_whole else "; the others were not looked at: `prepare` reads and checks them"
    return f"{uri}: {head}{len(accepted.rows)} rows" + (f", refused: {refused}" if refused else "") + rest


def _describe_languages(data: DataConfig) -> str:
    return "; languages were not checked: `prepare` does it" if data.languages else ""


def _look_without_taxonomy(uri: str) -> str:
    store, key = open_uri(uri)
    store.open_stream(key).close()  # a missing file is a finding of its own
    return f"{uri} is there; its rows were not checked, because data.taxonomy cannot be used"


def _find_reason_not_to_read(source: SourceConfig) -> str:
    """Say why a source is not looked into here; empty: it is one file of JSON lines."""
    if source.date_partitions:
        return "it is a folder of days"
    if source.reader not in {"auto", "jsonl"}:
        return f"it is read as {source.reader}"
    name = source.uri.lower().removesuffix(".gz")
    return "" if name.endswith(".jsonl") and not Path(source.uri).is_dir() else "it is not one file of JSON lines"


def _describe_files(source: SourceConfig, unread: str) -> str:
    """Say what is there without reading it.

    Raises:
        ObjectNotFoundError: If nothing is there.
    """
    later = f"not looked into, because {unread}: its rows are read and checked by `prepare`"
    if source.reader == "datasets" and not Path(source.uri).exists():
        return f"{source.uri} is taken as a hub data set; that it exists was not checked, and it was {later}"
    store, key = open_uri(source.uri)
    if store.exists(key):
        return f"{source.uri} is there; {later}"
    num_files = sum(1 for _ in store.list_keys(key))
    if not num_files:
        raise ObjectNotFoundError(f"{source.uri} does not exist, or is an empty folder", remedy="check the address")
    return f"{source.uri}: {num_files} files; {later}"
