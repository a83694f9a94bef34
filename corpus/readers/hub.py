"""Data sets of the Hugging Face hub, and folders that `datasets.save_to_disk` wrote.

A hub address is `owner/name`, `owner/name/configuration`, each also with `@revision` (a pinned commit is the only one that
is the same data tomorrow). Nothing from a data set is executed. It lies on disk and is read in ranges of rows.

Source: https://huggingface.co/docs/datasets/loading
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus.readers.addresses import make_uri
from corpus.readers.arrow_rows import BATCH_ROWS, read_batch
from corpus.readers.columns import plan_columns
from voc.errors import DataError
from voc.records.refusals import Rejection
from voc.store.uri import open_store

if TYPE_CHECKING:
    from corpus.rows import InputSplit, RawRow
    from voc.config.data import SourceConfig

_MARKS = ("dataset_dict.json", "state.json")


def resolve_dataset(uri: str) -> str:
    """Return the address that every process understands: an absolute folder, or the hub's id."""
    is_path = uri.startswith(("/", ".", "file://", "s3://")) or Path(uri).is_dir()
    return make_uri(open_store(uri), "") if is_path else uri


def measure_dataset(uri: str, split_name: str) -> tuple[int, int, str]:
    """Return how many rows a split of a data set has, how many bytes, and its fingerprint.

    Raises:
        DataError: If it cannot be opened.
    """
    dataset = _open_dataset(uri, split_name)
    return len(dataset), dataset.data.nbytes, dataset._fingerprint


def read_dataset(split: InputSplit, source: SourceConfig, max_row_bytes: int) -> Iterator[RawRow | Rejection]:
    """Yield a range of rows.

    Raises:
        DataError: If the data set cannot be opened or lacks a column.
    """
    dataset = _open_dataset(split.uri, source.split)
    fields = plan_columns(source, dataset.column_names, split.uri)
    table = dataset.select_columns(list(fields.values())).with_format("arrow")
    end = len(dataset) if split.end is None else split.end
    line = 1
    for start in range(split.start, min(end, len(dataset)), BATCH_ROWS):
        for batch in table[start : min(start + BATCH_ROWS, end)].to_batches():
            yield from read_batch(batch, fields, first_line=line, max_row_bytes=max_row_bytes)
            line += batch.num_rows
    if end > len(dataset):
        detail = f"{split.uri} has {len(dataset)} rows, it had {end} or more when it was listed"
        yield Rejection(line, "truncated_file", detail, "")


@lru_cache(maxsize=4)
def _open_dataset(uri: str, split_name: str) -> Any:
    """Open a split; a process that reads many ranges opens it once."""
    from datasets import DatasetDict, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    try:
        if not uri.startswith(("/", "s3://")):
            address, _, revision = uri.partition("@")
            name, configuration = "/".join(address.split("/")[:2]), "/".join(address.split("/")[2:])
            return load_dataset(name, configuration or None, split=split_name, revision=revision or None)
        if not any((Path(uri) / mark).is_file() for mark in _MARKS):
            raise DataError(
                f"{uri} is no folder of a saved data set",
                expected=f"a hub id, or a local folder with {' or '.join(_MARKS)}",
                remedy="leave reader at auto for a folder or prefix of files",
            )
        found = load_from_disk(uri)
    except (DatasetsError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise DataError(
            f"the data set {uri} (split {split_name}) cannot be opened: {error}",
            expected="a hub id that this machine can reach or has in its cache, or a folder of save_to_disk",
            remedy="check uri and split, the network and HF_HUB_OFFLINE",
        ) from error
    if not isinstance(found, DatasetDict):
        return found
    if split_name not in found:
        raise DataError(
            f"the data set {uri} has no split {split_name!r}", expected=f"one of {', '.join(map(str, found))}"
        )
    return found[split_name]
