"""The files of one part of a source: its accepted rows as Parquet, their tokens as an Arrow file.

Rows are for people and for the comparison of texts, tokens for training; a row is named by its source and its number there. The
Arrow file is not compressed and opened through memory maps, so any row is read without the others. Arrow arrays are made from
their buffers: `pyarrow.array` imports pandas to see whether it was given something of it, 30 MiB and half a second in every
process, for a library that nothing here uses.

Source: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format and #buffer-listing-for-each-layout
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.ground.stored_file import StoredFile, localise
from voc.errors import DataError
from voc.store.base import Store
from voc.store.manifest import Manifest

TOKEN_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("learned", pa.list_(pa.bool_()))])
_BATCH_ROWS = 2048
_MAX_OFFSET = np.iinfo(np.int32).max
_TYPES = {np.dtype(np.int32): pa.int32(), np.dtype(np.int64): pa.int64()}


class PartRow(NamedTuple):
    """One accepted row.

    Attributes:
        id: A comment's id; empty for general rows.
        text: The comment, or all turns of a chat, or prompt and completion, joined with line ends.
        labels: A comment's label paths and emotions as canonical JSON; empty for general rows.
        category: The kind of general data; empty for comments.
        lang: ISO 639-1 code, or empty.
        record: The row as the contract writes it, as JSON.
    """

    id: str
    text: str
    labels: str
    category: str
    lang: str
    record: str


ROW_SCHEMA = pa.schema([(name, pa.string()) for name in PartRow._fields])


class PartWriter:
    """Writes one part, batch by batch."""

    def __init__(self, rows: pq.ParquetWriter, tokens: pa.ipc.RecordBatchFileWriter | None) -> None:
        self._rows = rows
        self._tokens = tokens

    def write(self, rows: Sequence[PartRow], samples: Sequence[Any]) -> None:
        """Append some rows with their samples (`corpus.encoding.encode.EncodedSample`), equally many if the part has tokens."""
        columns = [make_strings(column) for column in zip(*rows, strict=True)]
        self._rows.write_batch(pa.record_batch(columns, schema=ROW_SCHEMA))
        if self._tokens is not None:
            self._tokens.write_batch(make_token_batch(samples))


@contextmanager
def writing_part(rows: Path, tokens: Path | None) -> Iterator[PartWriter]:
    """Open the files of a part, without tokens if there is no path for them; they are whole when the block is left."""
    with ExitStack() as stack:
        # One batch at a time: without statistics and page indexes a row group of a few hundred rows costs little.
        row_file = stack.enter_context(pq.ParquetWriter(rows, ROW_SCHEMA, compression="zstd", write_statistics=False))
        token_file = None
        if tokens is not None:
            sink = stack.enter_context(pa.OSFile(str(tokens), "wb"))
            token_file = stack.enter_context(pa.ipc.new_file(sink, TOKEN_SCHEMA))
        yield PartWriter(row_file, token_file)


def make_token_batch(samples: Sequence[Any]) -> pa.RecordBatch:
    """Return samples as one record batch of `TOKEN_SCHEMA`, without a Python object per token."""
    offsets = np.zeros(len(samples) + 1, dtype=np.int32)
    np.cumsum([len(sample.input_ids) for sample in samples], out=offsets[1:])
    empty = np.zeros(0, dtype=np.int32)
    ids = np.concatenate([empty, *(sample.input_ids for sample in samples)])
    learned = np.concatenate([empty.astype(bool), *(sample.learned for sample in samples)])
    arrays = [make_lists(offsets, make_integers(ids)), make_lists(offsets, make_booleans(learned))]
    return pa.record_batch(arrays, schema=TOKEN_SCHEMA)


def read_column(path: Path, name: str) -> Iterator[str]:
    """Yield one column of a part's rows, a batch at a time in memory."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[name]):
            yield from batch.column(0).to_pylist()


def open_tokens(path: Path) -> pa.Table:
    """Return a part's tokens as a table over a memory map: rows that are not taken are not read."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def read_tokens(path: Path, rows: np.ndarray) -> pa.RecordBatch:
    """Return copies of some rows of a part's tokens; the file is closed again.

    Row by row, and not with `Table.take`: that joins the whole file in memory first.

    Args:
        path: The token file.
        rows: [rows] their numbers in the file, at least one, in the order wanted.
    """
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        batches = [file.get_batch(index) for index in range(file.num_record_batches)]
        starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        numbers = np.searchsorted(starts, rows, side="right") - 1
        places = zip(numbers.tolist(), (rows - starts[numbers]).tolist(), strict=True)
        return pa.concat_batches([batches[number].slice(place, 1) for number, place in places])


@dataclass(frozen=True, slots=True)
class PartFile:
    """One part of a source.

    Attributes:
        source: Name of the source.
        path: The Parquet file, on this machine's disk or a shared one.
        first_row: Number of its first row, counted over the parts of the source.
        num_rows: How many rows it has.
        is_test: True if the source is the held-out test set.
    """

    source: str
    path: str
    first_row: int
    num_rows: int
    is_test: bool = False


def read_batches(part: PartFile, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield (row number of its first row, batch) in file order, in bounded memory.

    Raises:
        DataError: If the file does not hold as many rows as its part says.
    """
    row = part.first_row
    with pq.ParquetFile(part.path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
            yield row, batch
            row += batch.num_rows
    if row - part.first_row != part.num_rows:
        raise DataError(
            f"{part.path} holds {row - part.first_row} rows",
            expected=f"{part.num_rows}, as it was written",
            remedy="start the stage again; it writes its part files anew",
        )


def read_cells(
    parts: Iterable[PartFile], rows: Mapping[str, Iterable[int]], columns: Sequence[str]
) -> dict[tuple[str, int], dict[str, str]]:
    """Read a few cells, only from the row groups that hold them.

    Args:
        parts: The part files of all sources.
        rows: Row numbers per source.
        columns: Names of string columns.

    Returns:
        The columns of each row by (source, row number).
    """
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for part in parts:
        wanted = sorted({int(r) for r in rows.get(part.source, ()) if 0 <= r - part.first_row < part.num_rows})
        if wanted:
            cells |= _read_part_cells(part, wanted, columns)
    return cells


def _read_part_cells(
    part: PartFile, rows: Sequence[int], columns: Sequence[str]
) -> dict[tuple[str, int], dict[str, str]]:
    cells: dict[tuple[str, int], dict[str, str]] = {}
    with pq.ParquetFile(part.path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        starts = part.first_row + np.concatenate([[0], np.cumsum(sizes)])
        for group in range(len(sizes)):
            inside = [row for row in rows if starts[group] <= row < starts[group + 1]]
            if not inside:
                continue
            table = file.read_row_group(group, columns=list(columns)).take([row - starts[group] for row in inside])
            cells |= {(part.source, row): cell for row, cell in zip(inside, table.to_pylist(), strict=True)}
    return cells


def read_row_ids(
    store: Store, prefix: str, data: Manifest, rows: Mapping[str, Iterable[int]]
) -> dict[tuple[str, int], str]:
    """Return the ids of some rows; general rows have empty ones.

    Args:
        store: The store.
        prefix: The run's data directory.
        data: Its manifest.
        rows: Row numbers per source, from 0.
    """
    parts = [part for source in rows for part in _list_parts(store, prefix, data, source)]
    return {place: cell["id"] for place, cell in read_cells(parts, rows, ("id",)).items()}


def _list_parts(store: Store, prefix: str, data: Manifest, source: str) -> list[PartFile]:
    parts, first_row = [], 0
    for entry in data.files:  # sorted, and so in the order of the parts
        if entry.path.startswith(f"rows/{source}/"):
            path = localise(StoredFile(store.uri, prefix, entry))
            num_rows = pq.read_metadata(path).num_rows
            parts.append(PartFile(source, str(path), first_row, num_rows))
            first_row += num_rows
    return parts


def make_integers(values: np.ndarray) -> pa.Array:
    """Return int32 or int64 values as an array; the memory stays shared where it lies in one piece.

    Args:
        values: [values] int32 or int64.
    """
    return pa.Array.from_buffers(_TYPES[values.dtype], len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def make_booleans(values: np.ndarray) -> pa.BooleanArray:
    """Return truth values as an array of bits.

    Args:
        values: [values] bool.
    """
    bits = np.packbits(values, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def make_strings(texts: Sequence[str]) -> pa.StringArray:
    """Return texts as an array.

    Raises:
        UnicodeEncodeError: If a text holds half a surrogate pair, which no file can.
        OverflowError: If they take 2 GiB or more: offsets are int32.
    """
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    if offsets[-1] > _MAX_OFFSET:
        raise OverflowError(f"{len(texts)} texts take {offsets[-1]} bytes, an array of strings holds less than 2 GiB")
    places = pa.py_buffer(offsets.astype(np.int32))
    return pa.StringArray.from_buffers(len(encoded), places, pa.py_buffer(b"".join(encoded)))


def make_lists(offsets: np.ndarray, values: pa.Array) -> pa.ListArray:
    """Return the values cut into lists.

    Args:
        offsets: [lists + 1] int32: where each list begins, and where the last ends.
        values: All of them, one list after the other.
    """
    return pa.ListArray.from_arrays(make_integers(offsets), values)
