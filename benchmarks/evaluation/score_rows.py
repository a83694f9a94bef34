"""The answers that both sides of `score_vs_sklearn` score: long-tailed labels, one to three a comment, errors of each kind.

Made from a seed in memory by each side, outside the measured time, so that both begin with the same Python sets of label paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from voc.labels.taxonomy import LabelPath, Leaf, Taxonomy

NUM_LEAVES = 1420
# Leaves per L3, L3 per L2, L2 per L1: the twelve branches of a taxonomy of that size.
WIDTHS = (6, 4, 5)
RIGHT, SIBLING, ELSEWHERE, INVENTED = 0.55, 0.15, 0.20, 0.02
UNREADABLE, MOST_LABELS = 0.03, 3


@dataclass(frozen=True)
class ScoreRows:
    """What is scored.

    Attributes:
        taxonomy: The labels.
        predicted: Predicted label paths per comment.
        gold: Gold label paths per comment, at least one each.
        training_support: Training comments per label.
    """

    taxonomy: Taxonomy
    predicted: Sequence[frozenset[LabelPath]]
    gold: Sequence[frozenset[LabelPath]]
    training_support: dict[LabelPath, int]


def make_leaves() -> list[LabelPath]:
    leaves = []
    for number in range(NUM_LEAVES):
        third = number // WIDTHS[0]
        second = third // WIDTHS[1]
        leaves.append((f"area {second // WIDTHS[2]}", f"topic {second}", f"aspect {third}", f"leaf {number}"))
    return leaves


def make_rows(num_rows: int, seed: int) -> ScoreRows:
    """Draw gold labels by Zipf's law, and from each a right, a sibling's, another or an invented label, or none."""
    generator = np.random.default_rng(seed)
    leaves = make_leaves()
    shares = 1 / np.arange(1, NUM_LEAVES + 1)
    order = generator.permutation(NUM_LEAVES)  # frequent labels are spread over the branches
    lengths = generator.integers(1, MOST_LABELS + 1, size=num_rows)
    gold = order[generator.choice(NUM_LEAVES, size=(num_rows, MOST_LABELS), p=shares / shares.sum())]
    kind = generator.random((num_rows, MOST_LABELS))
    near = np.minimum(gold // WIDTHS[0] * WIDTHS[0] + generator.integers(0, WIDTHS[0], size=gold.shape), NUM_LEAVES - 1)
    far = order[generator.choice(NUM_LEAVES, size=gold.shape, p=shares / shares.sum())]
    ends = np.cumsum([RIGHT, SIBLING, ELSEWHERE, INVENTED])
    predicted = np.select(
        [kind < ends[0], kind < ends[1], kind < ends[2], kind < ends[3]], [gold, near, far, NUM_LEAVES], -1
    )
    predicted[generator.random(num_rows) < UNREADABLE] = -1
    names = [*leaves, ("area 0", "topic 0", "aspect 0", "invented")]
    rows = zip(gold.tolist(), predicted.tolist(), lengths.tolist(), strict=True)
    sets = [(frozenset(names[i] for i in g[:n]), frozenset(names[i] for i in s[:n] if i >= 0)) for g, s, n in rows]
    return ScoreRows(
        Taxonomy(tuple(Leaf(path, "") for path in leaves)),
        [predicted for _, predicted in sets],
        [right for right, _ in sets],
        {leaves[i]: int(200_000 * share / shares.sum()) for i, share in zip(order, shares, strict=True)},
    )
