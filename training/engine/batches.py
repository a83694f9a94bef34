"""The samples of an optimizer step as forward passes: documents end to end in one row, no padding unless shapes must stay.

Which rank computes which samples, in how many passes, is a pure function of the samples' lengths that every rank computes
for all ranks: nobody has to be asked how many passes a step takes or how many tokens it learns.

Shapes: T tokens of a pass, D documents in it (or segments of documents, where beginnings are shared), N places with a token to
learn.

Source: first-fit-decreasing bin packing, Johnson 1973 (at most 11/9 of the best number of bins, plus a constant).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from training.engine.prefixes import NO_STEM, Group, Segment, group_by_prefix, lay_out_segments

IGNORE_INDEX = (
    -100
)  # as in corpus.encoding.encode, which needs packages that a bare CUDA machine lacks; a test compares them

Passes = tuple[tuple[tuple[int, ...], ...], ...]  # [ranks][passes] indices of samples


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

    @property
    def shareable(self) -> np.ndarray:
        """The tokens at its beginning that teach nothing and predict nothing that is learned; at least one token is left."""
        learned = np.flatnonzero(self.labels[1:] != IGNORE_INDEX)
        return self.input_ids[: int(learned[0]) if learned.size else len(self) - 1]


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """Which documents of a row continue another stretch of it, where beginnings are computed once.

    Attributes:
        lengths: [D] tokens of each segment; on the host, so that no layer waits for the device.
        stems: [D] number of the segment that each one continues, or -1.
        key_boundaries: [D + 1] int32 as `Batch.boundaries`, of the keys: those of the stem and then its own.
    """

    lengths: tuple[int, ...]
    stems: tuple[int, ...]
    key_boundaries: torch.Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """The input of one forward pass.

    Attributes:
        input_ids: [1, T] tokens.
        position_ids: [1, T] position in the document.
        boundaries: [D + 1] int32 first token of each document, and T; padding is a document of its own.
        places: [N] positions in the row whose next token is learned; never empty, so that every pass has a loss.
        targets: [N] those next tokens, or `IGNORE_INDEX` in a pass that teaches nothing.
        longest: Tokens of the longest document, or a bound that stays the same from pass to pass.
        num_tokens: Tokens of the documents, shared ones once; what follows them is padding.
        shared: What is shared; None: every document stands whole.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    boundaries: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor
    longest: int
    num_tokens: int
    shared: SharedPrefixes | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        names = ("input_ids", "position_ids", "boundaries", "places", "targets")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        shared = self.shared
        if shared is not None:
            shared = replace(shared, key_boundaries=shared.key_boundaries.to(device, non_blocking=True))
        return replace(self, **moved, shared=shared)


def plan_passes(lengths: Sequence[int], world_size: int, pass_tokens: int) -> Passes:
    """Split one step's samples over ranks and forward passes.

    Args:
        lengths: Tokens of each sample of the step.
        world_size: Ranks.
        pass_tokens: Most tokens of a pass, at least as many as the longest sample has.

    Returns:
        For each rank its passes, equally many on every rank.
    """
    ranks = []
    for samples in balance(lengths, world_size):
        bins = pack_first_fit_decreasing([lengths[i] for i in samples], pass_tokens)
        ranks.append([tuple(samples[i] for i in part) for part in bins])
    return _even_out(ranks)


def plan_packed_passes(packed_rows: Sequence[int], world_size: int, rows_per_pass: int) -> Passes:
    """Split one step whose rows were packed when the data was prepared over ranks and forward passes.

    Args:
        packed_rows: Row of each sample in the step.
        world_size: Ranks.
        rows_per_pass: Rows in one forward pass.
    """
    rows: dict[int, list[int]] = defaultdict(list)
    for sample, row in enumerate(packed_rows):
        rows[row].append(sample)
    ordered = [rows[row] for row in sorted(rows)]
    ranks = []
    for rank in range(world_size):
        mine = ordered[rank::world_size]
        parts = [mine[i : i + rows_per_pass] for i in range(0, len(mine), rows_per_pass)]
        ranks.append([tuple(sample for row in part for sample in row) for part in parts])
    return _even_out(ranks)


def balance(lengths: Sequence[int], world_size: int) -> list[list[int]]:
    """Give every sample to a rank so that the ranks' tokens are about equal: longest first, to the least loaded."""
    parts: list[list[int]] = [[] for _ in range(world_size)]
    load = [0] * world_size
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min(range(world_size), key=lambda r: (load[r], r))
        parts[rank].append(index)
        load[rank] += lengths[index]
    return parts


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


def build_batch(
    documents: Sequence[Document],
    *,
    pad_id: int,
    padded_length: int | None = None,
    longest: int | None = None,
    shares_prefixes: bool = False,
) -> Batch:
    """Lay documents end to end.

    Without documents the pass holds one padding token: a rank that has nothing to compute still takes part in every
    collective.

    Args:
        documents: What the pass computes.
        pad_id: Token of the padding.
        padded_length: Tokens of the row, where every pass must have the same shape; None: as many as the documents have.
        longest: The bound to state as the longest document; None: the longest there is.
        shares_prefixes: Lay what documents have in common at their beginning into the row once (`training.engine.prefixes`).
    """
    if shares_prefixes:
        groups = group_by_prefix([document.shareable for document in documents])
    else:
        groups = [Group(0, (i,)) for i in range(len(documents))]
    segments = lay_out_segments([len(document) for document in documents], groups)
    filled = sum(map(len, segments))
    total = max(filled, 1) if padded_length is None else padded_length
    input_ids = np.full(total, pad_id, dtype=np.int64)
    next_ids = np.full(total, IGNORE_INDEX, dtype=np.int64)
    position_ids = np.arange(total, dtype=np.int64)
    start = 0
    for segment in segments:
        document, end = documents[segment.document], start + len(segment)
        input_ids[start:end] = document.input_ids[segment.start : segment.stop]
        if not segment.is_stem:
            next_ids[start : end - 1] = document.labels[segment.start + 1 :]
        position_ids[start:end] += segment.start - start
        start = end
    position_ids[filled:] -= filled
    lengths = [len(segment) for segment in segments] + ([total - filled] if total > filled else [])
    places = np.flatnonzero(next_ids != IGNORE_INDEX)
    places = places if places.size else np.zeros(1, dtype=np.int64)
    return Batch(
        torch.from_numpy(input_ids).unsqueeze(0),
        torch.from_numpy(position_ids).unsqueeze(0),
        torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32)),
        torch.from_numpy(places),
        torch.from_numpy(next_ids[places]),
        max([*lengths, *(segment.stop for segment in segments)]) if longest is None else longest,
        filled,
        _describe_shared(segments, lengths),
    )


def _describe_shared(segments: Sequence[Segment], lengths: Sequence[int]) -> SharedPrefixes | None:
    if not any(segment.is_stem for segment in segments):
        return None
    # Padding, the last of the lengths where there is any, continues nothing.
    stems = [segment.stem for segment in segments] + [NO_STEM] * (len(lengths) - len(segments))
    keys = [length + (0 if stem == NO_STEM else lengths[stem]) for length, stem in zip(lengths, stems, strict=True)]
    return SharedPrefixes(tuple(lengths), tuple(stems), torch.from_numpy(np.cumsum([0, *keys], dtype=np.int32)))


def _even_out(ranks: list[list[tuple[int, ...]]]) -> Passes:
    """Give ranks with fewer forward passes empty ones: every rank takes part in every collective."""
    num_passes = max(1, *(len(passes) for passes in ranks))
    return tuple(tuple(passes + [()] * (num_passes - len(passes))) for passes in ranks)
