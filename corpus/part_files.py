"""The files of one part of a source: its accepted rows as Parquet, their tokens as an Arrow file.

Rows are for people and for the comparison of texts, tokens for training. The Arrow file is not compressed and opened through
memory maps, so any row is read without the others.

Source: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.arrow_arrays import make_booleans, make_integers, make_lists, make_strings

TOKEN_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("learned", pa.list_(pa.bool_()))])


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
        """Append some rows with their samples (`corpus.encode.EncodedSample`), equally many if the part has tokens."""
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
    """Return a part's tokens as a table over a memory map: rows that are not asked for are not read."""
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
