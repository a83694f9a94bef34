"""Lines of a file or of a byte range of it, and JSON objects on them, in memory that no line can exceed.

The one reader of JSON lines: preflight, `prepare` and the other formats of lines read by it, so that a row is refused by all of
them or by none. A line belongs to the range in which it begins, so ranges of any size give every line once. A line longer than
the limit is passed over in chunks. What a damaged gzip file still gives is given; the damage itself is one more refused row. A
last line that nothing ends is read as any other; if it is half a row, the file was cut off, as an upload that did not finish is.
"""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NoReturn

from voc.records.refusals import Rejection, RowError

CHUNK_BYTES = 1 << 20
RAW_CHARS = 64 << 10
HEAD_BYTES = 2048
Converted = tuple[dict[str, Any], tuple[str, ...]]
# What half a row looks like; a row that can be read and is wrong otherwise is no sign of a cut.
_SIGNS_OF_A_CUT = frozenset(
    {
        "malformed_json",
        "malformed_csv",
        "column_count",
        "encoding",
        "no_quadruple",
        "malformed_quadruple",
        "malformed_span",
    }
)
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its file has it: an object in the shape of the contract (`voc.records.records`), not checked yet.

    Attributes:
        value: The object.
        line: Number of the row in what was read, from 1.
        raw: The row as it was, for the quarantine (cut to a few KiB if it is long).
        notes: What the reader left out of the row without refusing it, by names to count (`reasoning_content`).
    """

    value: dict[str, Any]
    line: int
    raw: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end.

    Attributes:
        number: Number in what is read, from 1; blank lines count.
        offset: First byte in its file (in the unpacked data of a .gz file).
        size_bytes: Length.
        data: The line, or if it is too long the first 2 KiB of it.
        is_too_long: Whether it is longer than the limit.
        is_unended: Whether the file ends without ending this line.
    """

    number: int
    offset: int
    size_bytes: int
    data: bytes
    is_too_long: bool = False
    is_unended: bool = False

    def reject(self, reason: str, detail: str) -> Rejection:
        """Return the refusal of this line; half a row at the end of a file says that the file was cut off."""
        if self.is_unended and reason in _SIGNS_OF_A_CUT:
            detail = f"the file ends in the middle of a row ({detail}); every row before byte {self.offset} was read"
            reason = "truncated_file"
        return Rejection(self.number, reason, detail, show_bytes(self.data))

    def reject_too_long(self, max_row_bytes: int) -> Rejection:
        """Return the refusal of a line that is too long."""
        detail = (
            f"the row at byte {self.offset} has {self.size_bytes} bytes, expected at most {max_row_bytes} "
            f"(data.max_row_bytes); its beginning is kept{_explain_line_ends(self.data)}"
        )
        return self.reject("row_too_large", detail)


class LineCutter:
    """Cuts chunks of a file into the lines that begin in `[start, end)`."""

    def __init__(self, *, offset: int, start: int, end: int | None, max_row_bytes: int) -> None:
        self._start = start
        self._end = end
        self._max_row_bytes = max_row_bytes
        self._number = 0
        self._offset = offset  # first byte of the line that is not complete yet
        self._size = 0
        self._held = bytearray()

    @property
    def position(self) -> int:
        """How far the file was fed."""
        return self._offset + self._size

    @property
    def is_done(self) -> bool:
        """Whether every line that begins in the range was given."""
        if self._end is None:
            return False
        # The line before the range matters only by its end: if that is behind the range, no line begins in it.
        return self._offset >= self._end or (self._offset < self._start and self.position >= self._end)

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that a chunk completes."""
        *ends, rest = chunk.split(b"\n")
        for piece in ends:
            if self.is_done:
                return
            line = self._complete(piece)
            if line is not None:
                yield line
        self._hold(rest)

    def finish(self) -> Iterator[Line]:
        """Yield the last line, if nothing ended it."""
        if self._size and not self.is_done:
            line = self._complete(b"")
            if line is not None and line.data:
                yield replace(line, is_unended=True)

    def reject_rest(self, reason: str, problem: str) -> Rejection:
        """Return the refusal of everything from the incomplete line on."""
        detail = f"{problem}; every row before byte {self._offset} was read"
        return Rejection(self._number + 1, reason, detail, show_bytes(bytes(self._held[:HEAD_BYTES])))

    def _complete(self, piece: bytes) -> Line | None:
        offset, size = self._offset, self._size + len(piece)
        if self._size:
            self._hold(piece)
            piece = bytes(self._held)
            self._held.clear()
        self._offset, self._size = offset + size + 1, 0
        if offset < self._start:
            return None
        self._number += 1
        if size > self._max_row_bytes:
            return Line(self._number, offset, size, piece[:HEAD_BYTES], is_too_long=True)
        return Line(self._number, offset, size, piece if offset else piece.removeprefix(codecs.BOM_UTF8))

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._offset < self._start:
            return
        if self._size <= self._max_row_bytes:
            self._held += piece
            return
        self._held += piece[: max(0, HEAD_BYTES - len(self._held))]
        del self._held[HEAD_BYTES:]


def read_lines(
    file: BinaryIO, *, is_packed: bool, max_row_bytes: int, start: int = 0, end: int | None = None
) -> Iterator[Line | Rejection]:
    """Yield the lines of an open file; a damaged or shortened file ends with one refusal.

    Args:
        file: Opened for reading; of a packed file the whole is read.
        is_packed: Whether it is a gzip file.
        max_row_bytes: Of a longer line only the beginning is held.
        start: First byte of the range.
        end: Where the range ends, exclusive; None: at the end of the file. A line that begins in the range is read to its end.
    """
    first = max(start - 1, 0)  # one byte earlier: if it ends a line, the range begins with a whole line
    cutter = LineCutter(offset=first, start=start, end=end, max_row_bytes=max_row_bytes)
    file.seek(first)
    stream = gzip.GzipFile(fileobj=file) if is_packed else None
    # read1, because read would lose what it has when the next piece turns out to be missing.
    read = file.read if stream is None else stream.read1
    try:
        while not cutter.is_done and (chunk := read(CHUNK_BYTES)):
            yield from cutter.feed(chunk)
    except EOFError:
        yield cutter.reject_rest("truncated_file", "the gzip file ends in the middle")
        return
    except (gzip.BadGzipFile, zlib.error) as error:
        yield cutter.reject_rest("damaged_file", f"the gzip file is damaged ({error})")
        return
    is_short = end is not None and stream is None and cutter.position < end
    yield from cutter.finish()
    if is_short:
        detail = f"the file ended at byte {cutter.position}, it had {end} when it was listed"
        yield cutter.reject_rest("truncated_file", detail)


def read_objects(
    lines: Iterable[Line | Rejection],
    max_row_bytes: int,
    convert: Callable[[dict[str, Any], int], Converted] | None = None,
) -> Iterator[RawRow | Rejection]:
    """Yield the JSON object of every line that is not blank.

    Args:
        lines: What `read_lines` gives.
        max_row_bytes: The longest line, for the message about a longer one.
        convert: Makes a row of the contract from an object and its line number, and the notes about it.
    """
    for line in lines:
        if isinstance(line, Rejection):
            yield line
        elif line.is_too_long:
            yield line.reject_too_long(max_row_bytes)
        elif line.data.strip():
            try:
                text = decode(line.data)
                value = parse_object(text)
                row, notes = (value, ()) if convert is None else convert(value, line.number)
            except RowError as error:
                yield line.reject(error.reason, error.detail)
            else:
                yield RawRow(row, line.number, text[:RAW_CHARS].removesuffix("\r"), notes)


def decode(data: bytes) -> str:
    """Decode UTF-8.

    Raises:
        RowError: With the first byte that is wrong.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        found = " (it begins with the mark of UTF-16: save the file as UTF-8)" if data.startswith(_UTF16_MARKS) else ""
        detail = f"not UTF-8: {error.reason} at byte {error.start} of the row{found}"
        raise RowError("encoding", detail) from None


def parse_json(text: str) -> Any:
    """Parse JSON as the standard has it: `NaN` and `Infinity` are no numbers, and no key may be there twice.

    Raises:
        RowError: If it is none.
    """
    try:
        return _DECODER.decode(text)
    except RowError:
        raise
    except (ValueError, RecursionError) as error:
        detail = f"not JSON: {error}{_explain_line_ends(text.encode('utf-8', 'replace'))}"
        raise RowError("malformed_json", detail) from None


def parse_object(text: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        RowError: If it is none.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        raise RowError("schema", f"the line holds {type(value).__name__}, expected an object")
    return value


def show_bytes(data: bytes) -> str:
    """Return the beginning of some bytes as text; what is not UTF-8 is shown by its number."""
    return data[:RAW_CHARS].decode("utf-8", "backslashreplace").removesuffix("\r")


def is_gzip(uri: str) -> bool:
    """Tell by its name whether a file is packed."""
    return uri.lower().endswith(".gz")


def _explain_line_ends(data: bytes) -> str:
    is_one_line = b"\r" in data.rstrip(b"\r\n")
    return "; carriage returns stand inside of it: lines have to end with a line feed" if is_one_line else ""


def _refuse_constant(name: str) -> NoReturn:
    raise RowError("not_a_number", f"the row holds {name}, expected a text (JSON has no such value)")


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise RowError("duplicate_key", f"the key {repeated!r:.60} is there twice in one object; which value counts?")
    return value


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated_keys)
