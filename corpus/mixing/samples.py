"""An arm's samples in training order, cut into shards: what a rank reads, step by step, and nothing else.

A shard is an Arrow file with one record batch per optimizer step: `input_ids`, `learned`, `row` (the packed row of the step that
the sample lies in, -1 where the ranks lay rows out), and where it came from: `share` of the mixture, `source_row`. A rank opens
the shard of its step through a memory map; any step can be entered, and memory does not depend on the number of samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from corpus.encoding.encode import IGNORE_INDEX
from corpus.ground.results import ShardFacts
from corpus.ground.stored_file import StoredFile, localise, store_file
from corpus.parts.part_files import TOKEN_SCHEMA, make_integers, read_tokens
from voc.errors import TrainingError
from voc.store.base import Store
from voc.store.manifest import Manifest

SAMPLE_SCHEMA = pa.schema([*TOKEN_SCHEMA, ("row", pa.int32()), ("share", pa.int32()), ("source_row", pa.int64())])
SHARD_TOKENS = 8_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One document of a step.

    Attributes:
        input_ids: [tokens] int32.
        learned: [tokens] bool.
        row: Packed row of its step, or -1.
        share: Index of its stratum in the mixture.
        source_row: Its row number in the source, from 0.
    """

    input_ids: np.ndarray
    learned: np.ndarray
    row: int = -1
    share: int = -1
    source_row: int = -1

    @property
    def labels(self) -> np.ndarray:
        """[tokens] the tokens, with `IGNORE_INDEX` where nothing is learned."""
        return np.where(self.learned, self.input_ids, IGNORE_INDEX)


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to write.

    Attributes:
        store_uri: The store.
        prefix: The arm's folder of samples.
        name: File of the shard.
        token_files: The token files of all sources.
        first_rows: The row number, in its source, of the first row of each token file.
        files: [samples] index of each sample's token file.
        rows: [samples] its row in that file.
        shares: [samples] index of its stratum in the mixture.
        packed_rows: [samples] its packed row in its step, or -1.
        step_sizes: [steps] samples of each step.
    """

    store_uri: str
    prefix: str
    name: str
    token_files: tuple[StoredFile, ...]
    first_rows: np.ndarray
    files: np.ndarray
    rows: np.ndarray
    shares: np.ndarray
    packed_rows: np.ndarray
    step_sizes: np.ndarray


def cut_into_shards(step_tokens: np.ndarray, max_tokens: int = SHARD_TOKENS) -> list[tuple[int, int]]:
    """Cut steps into runs of about equal size, none with more than `max_tokens` unless one step has more.

    Args:
        step_tokens: [steps] tokens of each step.
        max_tokens: Largest shard in tokens.

    Returns:
        (first step, end) of each shard, in order.
    """
    cuts = [0]
    filled = 0
    for step, tokens in enumerate(step_tokens.tolist()):
        if filled and filled + tokens > max_tokens:
            cuts.append(step)
            filled = 0
        filled += tokens
    return list(zip(cuts, [*cuts[1:], len(step_tokens)], strict=True))


def write_shard(task: ShardTask) -> StoredFile:
    """Gather the samples of one shard from the token files and write it."""
    gathered, batches, rows = _gather(task)
    shares = task.shares.astype(np.int32)
    source_rows = task.first_rows[task.files] + task.rows

    def write(path: Path) -> None:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SAMPLE_SCHEMA) as file:
            end = 0
            for size in task.step_sizes.tolist():
                start, end = end, end + size
                places = zip(batches[start:end].tolist(), rows[start:end].tolist(), strict=True)
                tokens = pa.concat_batches([gathered[batch].slice(row, 1) for batch, row in places])
                columns = [make_integers(c[start:end]) for c in (task.packed_rows, shares, source_rows)]
                file.write_batch(pa.record_batch([*tokens.columns, *columns], schema=SAMPLE_SCHEMA))

    return store_file(task.store_uri, task.prefix, task.name, write)


def _gather(task: ShardTask) -> tuple[list[pa.RecordBatch], np.ndarray, np.ndarray]:
    """Read the rows of a shard, one token file after the other.

    Returns:
        The rows of each file, and for each sample the index of its file there and its row in it.
    """
    files, batches = np.unique(task.files, return_inverse=True)
    rows = np.zeros(len(task.files), dtype=np.int64)
    gathered = []
    for index, file in enumerate(files.tolist()):
        places = np.flatnonzero(batches == index)
        rows[places] = np.arange(len(places))
        gathered.append(read_tokens(localise(task.token_files[file]), task.rows[places]))
    return gathered, batches, rows


def _iterate_lists(column: pa.ListArray) -> Iterator[np.ndarray]:
    """Yield the lists of a column as arrays."""
    values = column.values.to_numpy(zero_copy_only=False)
    offsets = column.offsets.to_numpy()
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        yield values[start:end]


class SampleReader:
    """Reads an arm's samples step by step.

    Args:
        store: The store.
        prefix: The arm's folder of samples.
        manifest: Its manifest; its facts say which steps each shard holds.
    """

    def __init__(self, store: Store, prefix: str, manifest: Manifest) -> None:
        self._store = store
        self._prefix = prefix
        self._entries = {entry.path: entry for entry in manifest.files}
        self._shards: Sequence[ShardFacts] = manifest.facts["shards"]
        self._ends = np.array([shard["end_step"] for shard in self._shards])
        self._open: tuple[int, pa.ipc.RecordBatchFileReader] | None = None

    @property
    def num_steps(self) -> int:
        """Steps that there are samples for."""
        return int(self._ends[-1])

    def read_step(self, step: int) -> list[Sample]:
        """Return the samples of a step, from 0.

        Raises:
            TrainingError: If there is no such step.
            IntegrityError: If the shard is not what its manifest says.
        """
        if not 0 <= step < self.num_steps:
            raise TrainingError(f"step {step} was requested", expected=f"0 to {self.num_steps - 1}")
        index = int(np.searchsorted(self._ends, step, side="right"))
        return list(_read_samples(self._get_shard(index).get_batch(step - self._shards[index]["first_step"])))

    def read_sample(self, position: int) -> tuple[int, Sample]:
        """Return the step of a sample and the sample, by its position in the training order, from 0.

        Raises:
            TrainingError: If there is no such sample.
        """
        starts = np.array([shard["first_sample"] for shard in self._shards])
        if not 0 <= position < self._shards[-1]["end_sample"]:
            raise TrainingError(
                f"sample {position} is outside of the arm's {self._shards[-1]['end_sample']} samples",
                expected=f"0 to {self._shards[-1]['end_sample'] - 1}",
            )
        index = int(np.searchsorted(starts, position, side="right")) - 1
        shard, before = self._get_shard(index), int(starts[index])
        for batch_index in range(shard.num_record_batches):
            batch = shard.get_batch(batch_index)
            if position < before + batch.num_rows:
                chosen = batch.slice(position - before, 1)
                return self._shards[index]["first_step"] + batch_index, next(_read_samples(chosen))
            before += batch.num_rows
        raise TrainingError(f"shard {index} ends before sample {position}", remedy="prepare the run again")

    def _get_shard(self, index: int) -> pa.ipc.RecordBatchFileReader:
        if self._open is None or self._open[0] != index:
            self._open = (index, self._open_shard(index))
        return self._open[1]

    def _open_shard(self, index: int) -> pa.ipc.RecordBatchFileReader:
        entry = self._entries[self._shards[index]["path"]]
        path = localise(StoredFile(self._store.uri, self._prefix, entry), verify=True)
        return pa.ipc.open_file(pa.memory_map(str(path)))


def _read_samples(batch: pa.RecordBatch) -> Iterator[Sample]:
    ids, learned = (_iterate_lists(batch.column(name)) for name in ("input_ids", "learned"))
    numbers = (batch.column(name).to_pylist() for name in ("row", "share", "source_row"))
    for columns in zip(ids, learned, *numbers, strict=True):
        yield Sample(*columns)
