"""What makes a change of the taxonomy impossible to apply: nobody could say where a label goes.

Rows carry no taxonomy version. A label must therefore mean one thing for ever: a name that was given up is neither changed a
second time nor used again, and what has changed is not in the current taxonomy any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from voc.labels.taxonomy import LEVELS, NodePath, Taxonomy, join_path

if TYPE_CHECKING:
    from voc.labels.changes import Change


def check_change(
    change: Change, earlier: Sequence[Change], later: Sequence[Change], taxonomy: Taxonomy
) -> Iterator[str]:
    """Yield every mistake of one change.

    Args:
        change: The change.
        earlier: Those before it, in order.
        later: Those after it, in order.
        taxonomy: The taxonomy to which all of them lead.
    """
    yield from _check_shape(change)
    for source in change.sources:
        yield from _check_source(source, change, earlier, taxonomy)
    for target in change.targets:
        yield from _check_target(target, change, earlier, later, taxonomy)


def _check_shape(change: Change) -> Iterator[str]:
    repeated = sorted({path for path in change.sources if change.sources.count(path) > 1})
    repeated += sorted({path for path in change.targets if change.targets.count(path) > 1})
    yield from (f"{join_path(path)!r} is listed twice" for path in repeated)
    if change.kind == "split":
        if len(change.targets) < 2:
            yield "a split needs two or more paths under to"
        if any(len(path) < len(LEVELS) for path in (*change.sources, *change.targets)):
            yield f"a split is of one leaf into leaves: full paths of {len(LEVELS)} names"
        return
    if change.kind == "add" and any(len(path) < len(LEVELS) for path in change.targets):
        yield f"a leaf is added by its full path of {len(LEVELS)} names"
    if change.kind in {"rename", "move"} and change.sources == change.targets:
        yield f"{join_path(change.sources[0])!r} is changed into itself"
    elif change.kind == "merge" and set(change.sources) <= set(change.targets):
        yield f"{join_path(change.sources[0])!r} is merged into itself only"
    if any(len(source) != len(change.targets[0]) for source in change.sources if change.targets):
        yield "from and to have different numbers of names: a node keeps its level"


def _check_source(source: NodePath, change: Change, earlier: Sequence[Change], taxonomy: Taxonomy) -> Iterator[str]:
    if source == change.goes_to and change.kind == "merge":
        return  # one of the merged nodes keeps its name
    before = _find_change_of(source, earlier)
    if before is not None:
        yield f"{join_path(source)!r} was changed by line {before.line} already: a label cannot go two ways"
    if source in taxonomy.nodes:
        hint = ", or give what is left of it a new name" if change.kind == "split" else ""
        yield (
            f"{join_path(source)!r} is still in the taxonomy, so a row could mean the old or the new one: "
            f"take it out{hint}"
        )


def _check_target(
    target: NodePath, change: Change, earlier: Sequence[Change], later: Sequence[Change], taxonomy: Taxonomy
) -> Iterator[str]:
    cycle = _find_cycle(target, change, earlier)
    if cycle:
        yield f"the changes go in a circle: {' -> '.join(repr(join_path(path)) for path in cycle)}"
        return
    before = _find_change_of(target, earlier)
    if before is not None:
        yield f"{join_path(target)!r} was given up by line {before.line}: a name is not used a second time"
        return
    current = target
    for step in later:
        source = step.find_source(current)
        if source is None:
            continue
        if step.goes_to is None:
            return  # set aside later
        current = step.goes_to + current[len(source) :]
    if current not in taxonomy.nodes and not _is_taken_apart(current, later):
        became = "" if current == target else f", which became {join_path(current)!r},"
        yield f"the target {join_path(target)!r}{became} is not in the taxonomy{_suggest(current, taxonomy)}"


def _find_change_of(path: NodePath, changes: Sequence[Change]) -> Change | None:
    return next((change for change in changes if change.find_source(path) is not None), None)


def _find_cycle(target: NodePath, change: Change, earlier: Sequence[Change]) -> tuple[NodePath, ...]:
    """Follow a target through this change and the earlier ones; return the way back to where it began, or nothing."""
    way = [change.sources[0], target] if change.sources and change.sources[0] != target else [target]
    while len(way) <= len(earlier) + 2:
        step = _find_change_of(way[-1], (change, *earlier))
        if step is None or step.goes_to is None:
            return ()
        source = step.find_source(way[-1])
        current = step.goes_to + way[-1][len(source or ()) :]
        if current in way:
            return (*way[way.index(current) :], current)
        way.append(current)
    return ()


def _is_taken_apart(node: NodePath, later: Sequence[Change]) -> bool:
    """Tell whether later changes name nodes below this one: it may have lost all of its leaves to them."""
    return any(source[: len(node)] == node for change in later for source in change.sources)


def _suggest(path: NodePath, taxonomy: Taxonomy) -> str:
    if len(path) < len(LEVELS):
        return ""
    return f": {taxonomy.explain_unknown((path[0], path[1], path[2], path[3]))}"
