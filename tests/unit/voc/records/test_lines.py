"""The reader of lines by itself; `tests/unit/corpus/readers/test_lines.py` has it behind the splits of a source."""

from __future__ import annotations

import gzip
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from voc.records.lines import RawRow, read_lines, read_objects
from voc.records.refusals import Rejection


def read(data: bytes, *, is_packed: bool = False, max_row_bytes: int = 1000) -> list[RawRow | Rejection]:
    lines = read_lines(io.BytesIO(data), is_packed=is_packed, max_row_bytes=max_row_bytes)
    return list(read_objects(lines, max_row_bytes))


def refuse(data: bytes, *, max_row_bytes: int = 1000) -> Rejection:
    (item,) = read(data, max_row_bytes=max_row_bytes)
    assert isinstance(item, Rejection)
    return item


def test_a_packed_file_gives_the_rows_of_the_plain_one() -> None:
    data = b'{"a": 1}\n\n{"a": NaN}\n{"a": 2}'
    assert read(gzip.compress(data), is_packed=True) == read(data)


def test_a_utf_16_file_is_named_as_one() -> None:
    refused = refuse(json.dumps({"id": "a"}).encode("utf-16"))
    assert refused.reason == "truncated_file"  # its last byte is half a character
    assert "it begins with the mark of UTF-16: save the file as UTF-8" in refused.detail


def test_lines_that_end_in_carriage_returns_only_are_named_as_such() -> None:
    for max_row_bytes, reason in ((1000, "malformed_json"), (12, "row_too_large")):
        refused = refuse(b'{"id": "a"}\r{"id": "b"}\r\n', max_row_bytes=max_row_bytes)
        assert refused.reason == reason
        assert "carriage returns stand inside of it: lines have to end with a line feed" in refused.detail


def test_the_first_repeated_key_is_named_at_any_depth() -> None:
    assert "the key 'L1' is there twice" in refuse(b'{"id": "a", "segments": [{"L1": 1, "L1": 1}]}\n').detail


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(0, 200), st.integers(1, 200))
def test_ranges_give_every_line_once(pieces: list[bytes], cut: int, max_row_bytes: int) -> None:
    data = b"\n".join(pieces)
    cut = min(cut, len(data))
    whole = list(read_lines(io.BytesIO(data), is_packed=False, max_row_bytes=max_row_bytes))
    ranges = [
        line
        for start, end in ((0, cut), (cut, len(data)))
        for line in read_lines(io.BytesIO(data), is_packed=False, max_row_bytes=max_row_bytes, start=start, end=end)
    ]
    assert [(line.offset, line.data) for line in ranges] == [(line.offset, line.data) for line in whole]  # type: ignore[union-attr]
