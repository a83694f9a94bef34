"""The leaves that two taxonomies share, so that scores from before and after a change can be compared on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from voc.labels.changes import TaxonomyChanges
from voc.labels.taxonomy import LEVELS, LabelPath, NodePath, Taxonomy

_KEEPS_MEANING = frozenset({"rename", "move"})


def shared_leaves(old: Taxonomy, new: Taxonomy, changes: TaxonomyChanges | None) -> dict[NodePath, LabelPath]:
    """Find the leaves that mean the same in two taxonomies.

    A leaf is shared if it has the same path in both or was only renamed or moved. It is not if something was merged into it or
    split into it, if it was split or retired, or if it is new. A changed description does not count: that is how a meaning is
    clarified.

    Args:
        old: The earlier taxonomy.
        new: The later one, to which the changes lead.
        changes: All changes up to `new`; those from before `old` do no harm.

    Returns:
        The path in `new` of each shared leaf by its path in `old`.
    """
    known = changes or TaxonomyChanges(())
    candidates: dict[NodePath, LabelPath] = {}
    widened: set[NodePath] = set()
    for leaf in old.leaves:
        carried = known.carry_over(leaf.path)
        if all(step.kind in _KEEPS_MEANING for step in carried.steps):
            candidates[leaf.path] = carried.label
            continue
        if carried.reason is None:
            widened.add(carried.label)
        parts = (target for step in carried.steps if step.kind == "split" for target in step.targets)
        widened |= {_carry_node(part, known) for part in parts}
    times = Counter(candidates.values())
    return {
        before: after
        for before, after in candidates.items()
        if after in new.paths and after not in widened and times[after] == 1
    }


def _carry_node(node: NodePath, changes: TaxonomyChanges) -> NodePath:
    l1, l2, l3, l4 = (*node, *[""] * (len(LEVELS) - len(node)))
    return changes.carry_over((l1, l2, l3, l4)).label[: len(node)]


def restrict_to(labels: Collection[NodePath], shared: Mapping[NodePath, LabelPath]) -> frozenset[NodePath]:
    """Return those labels that are shared, each under its path in the later taxonomy.

    For labels of the later taxonomy itself give `{leaf: leaf for leaf in shared.values()}`.
    """
    return frozenset(shared[label] for label in labels if label in shared)
