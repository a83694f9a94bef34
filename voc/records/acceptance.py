"""Which rows a run accepts: one rule, applied by preflight and by `prepare`, and by nobody after them.

A row is read (`voc.records.lines` or a reader of another format), redacted, and judged by `voc.records.records`. A bad row never
stops the reading of its file: it becomes a `Rejection` that keeps the raw line. An id that an earlier row has is no fault of the
row, but of the set: in the test set the later row is refused (`duplicate_id`) and counted against `data.max_quarantine_ratio`; of
training rows it is dropped and counted, and counts against nothing.

What reads the files that `prepare` has written checks their digest and does not judge again: `parse_accepted_rows`.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from voc.errors import DataError, IntegrityError
from voc.labels.taxonomy import Taxonomy
from voc.records.checks import RowChecks
from voc.records.lines import RawRow, read_lines, read_objects
from voc.records.records import (
    GeneralRecord,
    Segment,
    VocRecord,
    parse_general_record,
    parse_voc_record,
)
from voc.records.redaction import Redactor
from voc.records.refusals import Rejection, RowError

if TYPE_CHECKING:
    from voc.config.data import DataConfig
    from voc.labels.changes import TaxonomyChanges

DUPLICATE_ID = "duplicate_id"
# Refusals that stand for any number of rows: the file is not whole (`data.damaged_files`).
DAMAGED_FILES = ("truncated_file", "damaged_file")
MAX_ROW_BYTES = 16 << 20  # of files that no configuration speaks of; data.max_row_bytes has the same default

_STRICT = RowChecks()

Row = TypeVar("Row")
AnyRecord = VocRecord | GeneralRecord


@dataclass(frozen=True, slots=True)
class Accepted(Generic[Row]):
    """What a file gave: usable rows in file order, and the refused ones."""

    rows: tuple[Row, ...]
    rejections: tuple[Rejection, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Refused rows per reason."""
        return dict(sorted(Counter(rejection.reason for rejection in self.rejections).items()))


class RepeatedIds:
    """Refuses a record whose id an earlier one has."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, record: VocRecord) -> None:
        """Remember a record that is accepted otherwise.

        Raises:
            RowError: If its id was used.
        """
        if record.id in self._seen:
            raise RowError(DUPLICATE_ID, f"the id {record.id!r} was used by an earlier row")
        self._seen.add(record.id)


class RowRules:
    """What a run does with every row before it uses it: redact, then check."""

    def __init__(
        self,
        data: DataConfig,
        taxonomy: Taxonomy | None,
        changes: TaxonomyChanges | None = None,
        *,
        check_languages: bool = True,
    ) -> None:
        """Take the rules from a configuration.

        Args:
            data: Its data section.
            taxonomy: The labels that exist; None: only general rows are judged.
            changes: How labels of older taxonomies are carried over.
            check_languages: Whether `data.languages` counts; the model that detects a language is not in every environment.
        """
        self.taxonomy = taxonomy
        self._changes = changes
        checks = RowChecks.from_config(data)
        self._checks = checks if check_languages else replace(checks, languages=frozenset())
        self._redactor = Redactor(data.redaction.kinds, data.redaction.order_number_pattern)

    def accept_voc(
        self, value: dict[str, Any], notes: Counter[str] | None = None, redacted: Counter[str] | None = None
    ) -> VocRecord:
        """Return the record of a customer row.

        Args:
            value: The row as its reader gives it.
            notes: Counts what is noticed about an accepted row.
            redacted: Counts what was replaced, in a row that is refused too.

        Raises:
            RowError: With the first reason for which it cannot be used.
        """
        if self.taxonomy is None:
            raise ValueError("customer rows cannot be judged without a taxonomy")
        value, found = self._redactor.redact_voc(value)
        if redacted is not None:
            redacted.update(found)
        return parse_voc_record(value, self.taxonomy, checks=self._checks, changes=self._changes, notes=notes)

    def accept_general(
        self,
        value: dict[str, Any],
        category: str | None = None,
        notes: Counter[str] | None = None,
        redacted: Counter[str] | None = None,
    ) -> GeneralRecord:
        """Return the record of a general row; `category` is that of the source, for a row that states none.

        Raises:
            RowError: With the first reason for which it cannot be used.
        """
        value, found = self._redactor.redact_general(value)
        if redacted is not None:
            redacted.update(found)
        if category is not None and "category" not in value:
            value = {**value, "category": category}
        return parse_general_record(value, notes=notes)

    def redact_rejection(self, rejection: Rejection) -> Rejection:
        """Return a refusal without personal data: its detail may quote the row, and it keeps the raw line."""
        detail, raw = self._redactor.redact(rejection.detail)[0], self._redactor.redact_raw(rejection.raw)
        return replace(rejection, detail=detail, raw=raw)


def accept_rows(items: Iterable[RawRow | Rejection], accept: Callable[[dict[str, Any]], Row]) -> Accepted[Row]:
    """Judge what a reader gave; every row is accepted or refused with a reason."""
    rows: list[Row] = []
    rejections: list[Rejection] = []
    for item in items:
        if isinstance(item, Rejection):
            rejections.append(item)
            continue
        try:
            rows.append(accept(item.value))
        except RowError as error:
            rejections.append(Rejection(item.line, error.reason, error.detail, item.raw))
    return Accepted(tuple(rows), tuple(rejections))


def read_voc_rows(
    data: bytes,
    taxonomy: Taxonomy,
    *,
    checks: RowChecks = _STRICT,
    changes: TaxonomyChanges | None = None,
    notes: Counter[str] | None = None,
) -> Accepted[VocRecord]:
    """Read JSON lines of VOC records; an id may appear once, every label must be in the taxonomy (`parse_voc_record`)."""
    ids = RepeatedIds()

    def accept(value: dict[str, Any]) -> VocRecord:
        noted: Counter[str] = Counter()  # a row that is refused for its id leaves no notes behind
        record = parse_voc_record(value, taxonomy, checks=checks, changes=changes, notes=noted)
        ids.check(record)
        if notes is not None:
            notes.update(noted)
        return record

    return accept_rows(_read_json_lines(data), accept)


def read_general_rows(data: bytes) -> Accepted[GeneralRecord]:
    """Read JSON lines of general rows."""
    return accept_rows(_read_json_lines(data), parse_general_record)


def _read_json_lines(data: bytes) -> Iterable[RawRow | Rejection]:
    lines = read_lines(io.BytesIO(data), is_packed=False, max_row_bytes=MAX_ROW_BYTES)
    return read_objects(lines, MAX_ROW_BYTES)


def check_quarantine(accepted: Accepted[Any], origin: str, max_ratio: float) -> None:
    """Fail if a file is empty or too much of it was refused.

    Raises:
        DataError: With counts by reason and the first refused row.
    """
    total = len(accepted.rows) + len(accepted.rejections)
    if not accepted.rows and not accepted.rejections:
        raise DataError(f"{origin} is empty", expected="at least one row", remedy="check the address")
    ratio = len(accepted.rejections) / total
    if ratio > max_ratio or not accepted.rows:
        first = accepted.rejections[0]
        counts = ", ".join(f"{reason} {count}" for reason, count in accepted.counts.items())
        raise DataError(
            f"{origin}: {len(accepted.rejections)} of {total} rows are refused ({counts}); "
            f"the first is line {first.line}: {first.detail}",
            expected=f"at most {max_ratio:.2%} refused (data.max_quarantine_ratio)",
            remedy="correct the rows, or raise the share if they may be left out",
        )


def check_damage(accepted: Accepted[Any], origin: str) -> None:
    """Fail if a file is not whole: one refusal stands for any number of rows there, so no share of rows shows it.

    Raises:
        DataError: With what is wrong with it.
    """
    damage = next((refused for refused in accepted.rejections if refused.reason in DAMAGED_FILES), None)
    if damage is not None:
        raise DataError(
            f"{origin} is not whole: {damage.detail}",
            expected="a whole file",
            remedy="upload it again, or set data.damaged_files to report to go on with what can be read",
        )


def parse_accepted_rows(data: bytes, taxonomy: Taxonomy, origin: str) -> tuple[VocRecord, ...]:
    """Read the records that `prepare` has accepted and written; nothing is judged again.

    That the bytes are those that were written is the caller's to check, by their digest. A repeated id is no damage.

    Args:
        data: JSON lines, as `VocRecord.to_json` writes them.
        taxonomy: The labels that were written beside them.
        origin: Where they are, for the message.

    Raises:
        IntegrityError: If a line is not such a record, or has a label that the taxonomy does not.
    """
    records = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            records.append(_parse_own(json.loads(line), taxonomy))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            detail = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise IntegrityError(
                f"{origin}, row {number} is not an accepted row: {detail}", remedy="run the prepare stage again"
            ) from error
    return tuple(records)


def _parse_own(value: dict[str, Any], taxonomy: Taxonomy) -> VocRecord:
    segments = []
    for item in value["segments"]:
        label = (item["L1"], item["L2"], item["L3"], item["L4"])
        if label not in taxonomy.paths:
            raise ValueError(f"the label {label} is not in the taxonomy beside it")
        segments.append(Segment(item["content"], label, item["emotion"]))
    extra = {name: text for name, text in value.items() if name not in {"id", "comment", "segments"}}
    return VocRecord(value["id"], value["comment"], tuple(segments), extra)
