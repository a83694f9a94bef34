"""Which samples of a step every rank trains on, and in which rows.

The split over ranks is a pure function of the samples' lengths that every rank computes for all ranks: nobody has to be asked
how many forward passes a step takes or how many tokens it learns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from training.packing import choose_row_len, pack_first_fit_decreasing


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one optimizer step computes, on all ranks.

    Attributes:
        row_len: Tokens of a row.
        passes: For each rank its forward passes, each a list of rows of sample indices; equally many on every rank.
    """

    row_len: int
    passes: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]


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
    return StepPlan(row_len, _even_out(ranks))


def balance(lengths: Sequence[int], world_size: int) -> list[list[int]]:
    """Give every sample to a rank so that the ranks' tokens are about equal: longest first, to the least loaded."""
    parts: list[list[int]] = [[] for _ in range(world_size)]
    load = [0] * world_size
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min(range(world_size), key=lambda r: (load[r], r))
        parts[rank].append(index)
        load[rank] += lengths[index]
    return parts


def plan_packed_step(packed_rows: Sequence[int], world_size: int, max_seq_len: int, micro_batch_size: int) -> StepPlan:
    """Split one step whose rows were packed when the data was prepared over ranks and forward passes.

    Args:
        packed_rows: Row of each sample in the step.
        world_size: Ranks.
        max_seq_len: Tokens of a row.
        micro_batch_size: Rows in one forward pass.
    """
    rows: dict[int, list[int]] = defaultdict(list)
    for sample, row in enumerate(packed_rows):
        rows[row].append(sample)
    ordered = [tuple(rows[row]) for row in sorted(rows)]
    ranks = []
    for rank in range(world_size):
        mine = ordered[rank::world_size]
        ranks.append([tuple(mine[i : i + micro_batch_size]) for i in range(0, len(mine), micro_batch_size)])
    return StepPlan(max_seq_len, _even_out(ranks))


def _even_out(ranks: list[list[tuple[tuple[int, ...], ...]]]) -> tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]:
    """Give ranks with fewer forward passes empty ones: every rank takes part in every collective."""
    num_passes = max(1, *(len(passes) for passes in ranks))
    nothing: tuple[tuple[int, ...], ...] = ((),)
    return tuple(tuple(passes + [nothing] * (num_passes - len(passes))) for passes in ranks)
