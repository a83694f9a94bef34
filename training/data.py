"""Encoded sources on disk, and which samples every rank trains on in every step.

The order of the samples comes from the mixture plan alone; a step is a slice of it, so training can be entered at any
step. The split over ranks is a pure function of the samples' lengths that every rank computes for all ranks: nobody has
to be asked how many forward passes a step takes or how many tokens it learns.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corpus.encode import IGNORE_INDEX, EncodedSample
from training.packing import Document, choose_row_len, pack_first_fit_decreasing


@dataclass(frozen=True)
class EncodedSource:
    """All samples of one source, end to end.

    Attributes:
        input_ids: [tokens] int32.
        labels: [tokens] int32.
        offsets: [rows + 1] int64, where each row starts.
    """

    input_ids: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Document:
        start, end = self.offsets[row], self.offsets[row + 1]
        return Document(self.input_ids[start:end], self.labels[start:end])

    @property
    def lengths(self) -> np.ndarray:
        """[rows] tokens of each row."""
        return np.diff(self.offsets)

    @property
    def num_targets(self) -> np.ndarray:
        """[rows] tokens that each row learns; a document's first token has nothing before it to be predicted from."""
        learned = self.labels != IGNORE_INDEX
        learned[self.offsets[:-1]] = False
        return np.add.reduceat(learned, self.offsets[:-1], dtype=np.int64)


def collect_samples(samples: Iterable[EncodedSample]) -> EncodedSource:
    """Join encoded samples."""
    kept = list(samples)
    offsets = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum([len(sample.input_ids) for sample in kept], out=offsets[1:])
    input_ids = np.fromiter((t for s in kept for t in s.input_ids), dtype=np.int32, count=offsets[-1])
    labels = np.fromiter((t for s in kept for t in s.labels), dtype=np.int32, count=offsets[-1])
    return EncodedSource(input_ids, labels, offsets)


def save_encoded(source: EncodedSource, path: Path) -> None:
    """Write a source as an uncompressed `.npz`."""
    with path.open("wb") as file:
        np.savez(file, input_ids=source.input_ids, labels=source.labels, offsets=source.offsets)


def load_encoded(data: bytes) -> EncodedSource:
    """Read what `save_encoded` wrote; never unpickles."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return EncodedSource(arrays["input_ids"], arrays["labels"], arrays["offsets"])


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one optimizer step computes, on all ranks.

    Attributes:
        row_len: Tokens of a row.
        passes: For each rank its forward passes, each a list of rows of sample indices; equally many on every rank.
    """

    row_len: int
    passes: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]


def slice_step(order: Sequence[tuple[int, int]], step: int, global_batch_size: int) -> Sequence[tuple[int, int]]:
    """Return the samples of a step (from 0), as (source index, row index)."""
    return order[step * global_batch_size : (step + 1) * global_batch_size]


def plan_step(
    lengths: Sequence[int], world_size: int, max_seq_len: int, micro_batch_size: int, *, is_dense_attention: bool
) -> StepPlan:
    """Split one step's samples over ranks, rows and forward passes.

    Args:
        lengths: Tokens of each sample of the step.
        world_size: Ranks, at most as many as samples.
        max_seq_len: Longest row.
        micro_batch_size: Rows of that length in one forward pass: their tokens bound its memory, so of shorter rows a
            pass takes more.
        is_dense_attention: True where packed rows pay for a dense mask (see `choose_row_len`).
    """
    row_len = choose_row_len(lengths, max_seq_len, is_dense_attention=is_dense_attention)
    rows_per_pass = micro_batch_size * max_seq_len // row_len
    ranks = []
    for samples in balance(lengths, world_size):
        rows = pack_first_fit_decreasing([lengths[i] for i in samples], row_len)
        named = [tuple(samples[i] for i in row) for row in rows]
        ranks.append([tuple(named[i : i + rows_per_pass]) for i in range(0, len(named), rows_per_pass)])
    num_passes = max(len(passes) for passes in ranks)
    nothing: tuple[tuple[int, ...], ...] = ((),)
    return StepPlan(row_len, tuple(tuple(passes + [nothing] * (num_passes - len(passes))) for passes in ranks))


def balance(lengths: Sequence[int], world_size: int) -> list[list[int]]:
    """Give every sample to a rank so that the ranks' tokens are about equal: longest first, to the least loaded."""
    parts: list[list[int]] = [[] for _ in range(world_size)]
    load = [0] * world_size
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min(range(world_size), key=lambda r: (load[r], r))
        parts[rank].append(index)
        load[rank] += lengths[index]
    return parts
