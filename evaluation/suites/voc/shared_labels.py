"""Scores of two nights on the leaves that both of their taxonomies have, so that a change of the taxonomy is not read as a change
of the model.

Pure: it gets items and what `voc.labels.changes` found, and returns items for the measures of `label_scores`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from evaluation.items import Items
from voc.labels.changes import restrict_to
from voc.labels.taxonomy import LabelPath, NodePath


def restrict_items(items: Items, shared: Mapping[NodePath, LabelPath]) -> Items:
    """Keep the shared leaves of every comment, gold and predicted, under their paths in the later taxonomy.

    No comment is dropped, so two nights stay paired. A comment may lose all of its gold labels; the `samples` average then gives
    it 1 if nothing is predicted either. Invented labels are nobody's leaves and go too: these figures are for comparing nights,
    not for judging one.

    Args:
        items: One model's items.
        shared: Path in the later taxonomy by path in the taxonomy of `items`; for items of the later taxonomy itself
            `{leaf: leaf for leaf in shared.values()}`.
    """
    return replace(
        items,
        gold=[restrict_to(labels, shared) for labels in items.gold],
        predicted=[restrict_to(labels, shared) for labels in items.predicted],
    )
