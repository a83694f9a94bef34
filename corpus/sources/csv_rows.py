"""CSV files (`.csv`, commas; `.tsv`, tabs; each also .gz) with a header, read as RFC 4180 says: quotes hold commas and lines.

The delimiter is not guessed. A quote that nothing closes would swallow the rows after it: then the line that opened it is
refused and the lines after it are read again.

Source: https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from corpus.sources.columns import FLAT_FIELDS, plan_columns, shape_row
from corpus.sources.rows import read_split_lines
from voc.errors import DataError
from voc.records.lines import Line, RawRow, show_bytes
from voc.records.refusals import Rejection, RowError, is_text

if TYPE_CHECKING:
    from corpus.sources.rows import InputSplit
    from voc.config.data import SourceConfig

# Lines read again after an unclosed quote, per file: a file of nothing but such lines must not cost the square of its size.
_MAX_REREAD_BYTES = 256 << 20
_ABSENT_IF_EMPTY = ("content", "lang", "source", "created_at", "category")


@dataclass
class _Record:
    """Some lines that are one row, or the reason why they are not."""

    line: int
    cells: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    problem: Rejection | None = None

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return b"".join(line.data + b"\n" for line in self.lines)

    def reject(self, error: RowError) -> Rejection:
        """Return the refusal of this row, with all of its lines."""
        last = self.lines[-1].reject(error.reason, error.detail)
        return Rejection(self.line, last.reason, last.detail, show_bytes(self.data))


def read_csv(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Iterator[RawRow | Rejection]:
    """Yield the rows of a file.

    Raises:
        DataError: If the header lacks a column or cannot be read.
    """
    records = _RecordReader(split, max_row_bytes).read()
    header = next(records, _Record(1))
    if header.problem is not None or not all(is_text(name) for name in header.cells):
        detail = "not UTF-8" if header.problem is None else header.problem.detail
        raise DataError(
            f"{split.uri}: the header cannot be read: {detail}", expected="names of columns in UTF-8 in the first line"
        )
    names = [name.strip() for name in header.cells]
    fields = {field: names.index(column) for field, column in plan_columns(source, names, split.uri).items()}
    for record in records:
        yield _make_row(record, fields, len(names))


def _make_row(record: _Record, fields: dict[str, int], num_columns: int) -> RawRow | Rejection:
    if record.problem is not None:
        return record.problem
    try:
        if not all(is_text(cell) for cell in record.cells):
            raise RowError("encoding", "the row is not UTF-8")
        if len(record.cells) != num_columns:
            raise RowError("column_count", f"the row has {len(record.cells)} cells, expected {num_columns}")
        row = shape_row({field: _read_cell(field, record.cells[index]) for field, index in fields.items()})
    except RowError as error:
        return record.reject(error)
    return RawRow(row, record.line, show_bytes(record.data).rstrip("\r\n"))


def _read_cell(name: str, cell: str) -> Any:
    if name in FLAT_FIELDS and cell.lower() == "nan":
        raise RowError("not_a_number", f"{name} is {cell}: an empty cell that another program wrote as a number")
    return None if name in _ABSENT_IF_EMPTY and not cell else cell


class _RecordReader:
    """Groups the lines of a file into records, as `csv.reader` does, but gets over the broken ones."""

    def __init__(self, split: InputSplit, max_row_bytes: int) -> None:
        self._max_row_bytes = max_row_bytes
        self._lines = read_split_lines(split, max_row_bytes)
        self._again: deque[Line] = deque()
        self._taken: list[Line] = []
        self._taken_bytes = 0
        self._reread_bytes = 0
        self._end: Rejection | None = None
        self._delimiter = "\t" if split.uri.lower().removesuffix(".gz").endswith(".tsv") else ","

    def read(self) -> Iterator[_Record]:
        """Yield the records in file order; blank lines are none."""
        # The limit is one of the whole process and per field; here a record is bounded before it is parsed.
        limit = csv.field_size_limit(max(csv.field_size_limit(), 2 * self._max_row_bytes))
        try:
            yield from self._read_records()
        finally:
            csv.field_size_limit(limit)

    def _read_records(self) -> Iterator[_Record]:
        rows = csv.reader(self._feed(), strict=True, delimiter=self._delimiter)
        while True:
            self._taken, self._taken_bytes = [], 0
            try:
                cells = next(rows)
            except StopIteration:
                break
            except csv.Error as error:
                yield self._get_over(str(error))
                rows = csv.reader(self._feed(), strict=True, delimiter=self._delimiter)
                continue
            if cells:
                yield _Record(self._taken[0].number, cells, self._taken)
        if self._end is not None:
            yield _Record(self._end.line, problem=self._end)

    def _feed(self) -> Iterator[str]:
        while (line := self._take()) is not None:
            self._taken.append(line)
            self._taken_bytes += line.size_bytes + 1
            if line.is_too_long or self._taken_bytes > self._max_row_bytes + 1:
                raise csv.Error("too large")
            yield line.data.decode("utf-8", "surrogateescape") + "\n"

    def _take(self) -> Line | None:
        if self._again:
            return self._again.popleft()
        line = next(self._lines, None) if self._end is None else None
        if isinstance(line, Rejection):
            self._end = line
            return None
        return line

    def _get_over(self, problem: str) -> _Record:
        """Refuse the first of the taken lines and have the others read again."""
        first, *others = self._taken
        size = sum(line.size_bytes for line in others)
        if others and self._reread_bytes + size <= _MAX_REREAD_BYTES:
            self._reread_bytes += size
            self._again.extendleft(reversed(others))
            detail = f"the row cannot be read as CSV ({problem}): a quote opens that is not closed as it should"
            return _Record(first.number, problem=first.reject("malformed_csv", detail))
        if first.is_too_long and not others:
            return _Record(first.number, problem=first.reject_too_long(self._max_row_bytes))
        detail = f"the row of {len(self._taken)} lines cannot be read as CSV: {problem}"
        return _Record(first.number, problem=first.reject("malformed_csv", detail))
