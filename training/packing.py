"""Documents into rows: first-fit-decreasing packing with attention that never crosses a document.

`position_ids` restart at each document; transformers' sdpa path reads the restarts and masks accordingly, so a packed row
computes exactly what its documents compute alone. Padding goes on counting at the end of the last document, where causal
attention keeps it harmless, so a row with one document needs no mask at all.

Shapes: R rows, T tokens of a row.

Source: first-fit-decreasing bin packing, Johnson 1973 (at most 11/9 of the best number of bins, plus a constant).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from corpus.encode import IGNORE_INDEX

ROW_MULTIPLE = 32


@dataclass(frozen=True, slots=True)
class Document:
    """One sample as arrays of equal length: its tokens, and its labels with `IGNORE_INDEX` where nothing is learned."""

    input_ids: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def num_targets(self) -> int:
        """Tokens that it teaches; the first has nothing before it to be predicted from."""
        return int(np.count_nonzero(self.labels[1:] != IGNORE_INDEX))


@dataclass(frozen=True, slots=True)
class Batch:
    """The input of one forward pass.

    Attributes:
        input_ids: [R, T] tokens.
        targets: [R, T] the token to predict at each place (labels shifted inside each document), or `IGNORE_INDEX`.
        position_ids: [R, T] position in the document.
        columns: [C] the places where any row has a target; never empty, so that every pass has a loss.
    """

    input_ids: torch.Tensor
    targets: torch.Tensor
    position_ids: torch.Tensor
    columns: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        tensors = (self.input_ids, self.targets, self.position_ids, self.columns)
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in tensors))


def choose_row_len(lengths: Sequence[int], max_seq_len: int, *, is_dense_attention: bool) -> int:
    """Return the row length of one step.

    Attention over a packed row with a dense mask costs the square of the row, so there (on CPUs) rows are as short as the
    longest sample of the step allows, rounded up to `ROW_MULTIPLE`; elsewhere they are `max_seq_len`.
    """
    if not is_dense_attention:
        return max_seq_len
    return min(max_seq_len, -(-max(lengths) // ROW_MULTIPLE) * ROW_MULTIPLE)


def pack_first_fit_decreasing(lengths: Sequence[int], row_len: int) -> list[list[int]]:
    """Put samples into as few rows as the heuristic finds.

    Args:
        lengths: Tokens of each sample, none above `row_len`.
        row_len: Tokens of a row.

    Returns:
        Rows of sample indices; ties are broken by index, so the result is deterministic.

    Raises:
        ValueError: If a sample is longer than a row.
    """
    rows: list[list[int]] = []
    free: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[index] > row_len:
            raise ValueError(f"sample {index} has {lengths[index]} tokens, a row has {row_len}")
        for row, space in enumerate(free):
            if lengths[index] <= space:
                rows[row].append(index)
                free[row] -= lengths[index]
                break
        else:
            rows.append([index])
            free.append(row_len - lengths[index])
    return rows


def build_batch(rows: Sequence[Sequence[Document]], row_len: int, pad_id: int) -> Batch:
    """Lay documents out in rows.

    An empty row is padding only: a rank that has fewer rows than others still takes part in every collective.
    """
    shape = (len(rows), row_len)
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    targets = np.full(shape, IGNORE_INDEX, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    for row, documents in enumerate(rows):
        start, length = 0, 0
        for document in documents:
            length = len(document.input_ids)
            end = start + length
            input_ids[row, start:end] = document.input_ids
            targets[row, start : end - 1] = document.labels[1:]
            position_ids[row, start:end] = np.arange(length)
            start = end
        position_ids[row, start:] = np.arange(length, length + row_len - start)
    columns = np.flatnonzero((targets != IGNORE_INDEX).any(axis=0))
    columns = columns if columns.size else np.zeros(1, dtype=np.int64)
    return Batch(*(torch.from_numpy(array) for array in (input_ids, targets, position_ids, columns)))
