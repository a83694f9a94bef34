"""Readers of the input formats, one file each, behind `corpus.readers.read_split`.

Every row of a split is given once, in file order, as it is or as a refusal with its reason. A reader never holds a whole file.
A file that is damaged gives what it still has, and one refusal for the rest. Only what would be wrong with every row of a
file (a missing column, say) is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from corpus.readers.acos import read_acos
from corpus.readers.addresses import make_id_stem, make_row_id
from corpus.readers.chat import CONVERTERS
from corpus.readers.csv_rows import read_csv
from corpus.readers.hub import read_dataset
from corpus.readers.lines import read_objects
from corpus.readers.parquet import read_parquet
from voc.errors import ConfigError

if TYPE_CHECKING:
    from corpus.rows import InputSplit, RawRow
    from voc.config.data import SourceConfig
    from voc.records.refusals import Rejection

Rows = Iterator["RawRow | Rejection"]


def read_split(split: InputSplit, source: SourceConfig, *, max_row_bytes: int) -> Rows:
    """Yield the rows of a split in bounded memory; nothing is checked against the taxonomy here.

    Args:
        split: What is read, as `corpus.splits.list_splits` listed it.
        source: Its source: the format, the map of columns, the split of a data set.
        max_row_bytes: A longer row is refused (`row_too_large`) and not held.

    Raises:
        DataError: If the file is not what the source says it is.
        StoreError: If it cannot be reached.
    """
    if split.reader not in _READERS:
        raise ConfigError(
            f"the split {split.uri} has the reader {split.reader!r}", expected=f"one of {', '.join(sorted(_READERS))}"
        )
    return _READERS[split.reader](split, source, max_row_bytes)


def _read_jsonl(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Rows:
    return read_objects(split, max_row_bytes)


def _read_chats(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Rows:
    converter, stem = CONVERTERS[split.reader], make_id_stem(split, source)

    def convert(value: dict[str, Any], line: int) -> tuple[dict[str, Any], tuple[str, ...]]:
        return converter(value, source.format, make_row_id(stem, line))

    return read_objects(split, max_row_bytes, convert)


_READERS: dict[str, Callable[[InputSplit, SourceConfig, int], Rows]] = {
    "jsonl": _read_jsonl,
    "converse": _read_chats,
    "openai": _read_chats,
    "csv": read_csv,
    "parquet": read_parquet,
    "datasets": read_dataset,
    "acos": read_acos,
}
