"""Beginnings that documents of one forward pass have in common, so that they are computed once.

Every sample of a prompt begins with the same instructions, and with the `taxonomy` prompt with the same tens of thousands of
tokens. Nothing in them is learned, and causal attention gives them the same hidden states in every document. So a common
beginning, a *stem*, is laid into the row once, and what follows it in each document attends to the stem and to itself.
The loss and its gradients are those of the whole documents: the gradient of a stem is the sum over its documents.

Shapes: D documents, S segments of a row (stems and what remains of documents).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

MIN_STEM_TOKENS = 16  # below that the further attention call of a stem costs about what it saves
NO_STEM = -1


@dataclass(frozen=True, slots=True)
class Group:
    """Documents with a common beginning.

    Attributes:
        stem_tokens: Its length; 0 for a document that shares nothing.
        members: Indices of the documents, ascending.
    """

    stem_tokens: int
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of a row: tokens `start` to `stop` of a document.

    Attributes:
        document: Index of the document; a stem is taken from the first of its group.
        start: First token.
        stop: The token after the last.
        stem: Number of the segment that comes before it in the document, or `NO_STEM`.
        is_stem: Whether other segments continue it.
    """

    document: int
    start: int
    stop: int
    stem: int = NO_STEM
    is_stem: bool = False

    def __len__(self) -> int:
        return self.stop - self.start


def lay_out_segments(lengths: Sequence[int], groups: Sequence[Group]) -> list[Segment]:
    """Return the segments of a row: each stem, followed by what remains of its documents.

    Args:
        lengths: Tokens of each document.
        groups: All documents, each in one group.
    """
    segments: list[Segment] = []
    for group in groups:
        stem = NO_STEM
        if group.stem_tokens:
            stem = len(segments)
            segments.append(Segment(group.members[0], 0, group.stem_tokens, is_stem=True))
        segments += [Segment(i, group.stem_tokens, lengths[i], stem) for i in group.members]
    return segments


def group_by_prefix(prefixes: Sequence[np.ndarray], min_tokens: int = MIN_STEM_TOKENS) -> list[Group]:
    """Group documents, with one stem per document, so that few tokens are computed.

    Documents of one prompt are neighbours in lexicographic order, so groups are stretches of that order, and of all ways to
    cut it the best is taken. Where one stem begins with another a grouping across stretches may save a little more.

    Args:
        prefixes: [D] of each document the int32 tokens at its beginning that may be shared.
        min_tokens: Shorter stems are not made.

    Returns:
        Groups in the order of their first documents.
    """
    order = sorted(range(len(prefixes)), key=lambda i: (prefixes[i].astype(">i4").tobytes(), i))
    common = [_count_common(prefixes[a], prefixes[b]) for a, b in pairwise(order)]
    saved, cuts, stems = [0], [0], [0]  # of the first n documents: tokens, start of the last group, its stem
    for end in range(1, len(order) + 1):
        best, cut, stem, shortest = saved[end - 1], end - 1, 0, np.iinfo(np.int64).max
        for start in range(end - 2, -1, -1):
            shortest = min(shortest, common[start])
            if shortest < min_tokens:
                break
            total = saved[start] + (end - start - 1) * shortest
            if total > best:
                best, cut, stem = total, start, int(shortest)
        saved.append(best)
        cuts.append(cut)
        stems.append(stem)
    groups, end = [], len(order)
    while end:
        groups.append(Group(stems[end], tuple(sorted(order[cuts[end] : end]))))
        end = cuts[end]
    return sorted(groups, key=lambda group: group.members)


def _count_common(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many tokens two arrays have in common at their beginning."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    return int(differs.argmax()) if differs.any() else length
