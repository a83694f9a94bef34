"""How labels of older taxonomies are carried over to the current one, or set aside by rule.

The changes are JSONL, in the order in which they were made:

    {"change": "add", "to": PATH}
    {"change": "rename", "from": PATH, "to": PATH}      the same meaning under another name
    {"change": "move", "from": PATH, "to": PATH}        the same meaning in another place
    {"change": "merge", "from": [PATH, ...], "to": PATH}
    {"change": "split", "from": PATH, "to": [PATH, ...], "rule": "set_aside" or {"to": PATH}}
    {"change": "retire", "from": PATH}

A path is a list of one to four names. Rename, move, merge and retire may name an inner node and then apply to every leaf below
it. `version` and `date` are notes for readers. Rows carry no taxonomy version: `parse_changes` refuses a file in which a label
could mean two things.

What makes a change impossible to apply is that nobody could say where a label goes. A label must therefore mean one thing for
ever: a name that was given up is neither changed a second time nor used again, and what has changed is not in the current
taxonomy any more.

The leaves that two taxonomies share follow from the changes too (`shared_leaves`), so that scores from before and after a change
can be compared on them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard, get_args

from voc.errors import TaxonomyError
from voc.labels.taxonomy import LEVELS, LabelPath, NodePath, Taxonomy, fold_name, join_path

ChangeKind = Literal["add", "rename", "move", "merge", "split", "retire"]
CHANGE_KINDS: tuple[ChangeKind, ...] = get_args(ChangeKind)
LABEL_RETIRED, LABEL_SPLIT = "label_retired", "label_split"
_MAX_REMEMBERED = 50_000
_MAX_LISTED = 10
_NOTES = ("version", "date")
_KEYS: Mapping[str, frozenset[str]] = {
    "add": frozenset({"to"}),
    "rename": frozenset({"from", "to"}),
    "move": frozenset({"from", "to"}),
    "merge": frozenset({"from", "to"}),
    "split": frozenset({"from", "to"}),
    "retire": frozenset({"from"}),
}
# Where a list of paths may stand for one path.
_MANY = frozenset({("add", "to"), ("merge", "from"), ("split", "to"), ("retire", "from")})
_KEEPS_MEANING = frozenset({"rename", "move"})


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    Attributes:
        line: Its line in the file, from 1.
        kind: What was done.
        sources: The nodes that are no more; none for `add`.
        targets: The nodes that came of it; none for `retire`.
        goes_to: Where labels of the sources go; None: they are set aside (or there are none).
        version: The taxonomy version that brought it, if the file says so.
        date: The day of it, if the file says so.
    """

    line: int
    kind: ChangeKind
    sources: tuple[NodePath, ...] = ()
    targets: tuple[NodePath, ...] = ()
    goes_to: NodePath | None = None
    version: str = ""
    date: str = ""

    def find_source(self, path: NodePath, *, forgiving: bool = False) -> NodePath | None:
        """Return the source that is `path` or above it, if it goes somewhere else; None without one."""
        for source in self.sources:
            head = path[: len(source)]
            is_it = head == source or (forgiving and _fold(head) == _fold(source))
            if is_it and source != self.goes_to:
                return source
        return None

    def describe(self) -> str:
        """Name the change for a reader."""
        since = ", ".join(part for part in (self.version and f"version {self.version}", self.date) if part)
        return f"line {self.line} of the changes" + (f" ({since})" if since else "")


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a label.

    Attributes:
        label: What it is called now; as it was, if it is set aside.
        steps: The changes that applied to it, in order.
        reason: `label_retired` or `label_split` if it is set aside, else None.
        detail: Why it is set aside.
    """

    label: LabelPath
    steps: tuple[Change, ...] = ()
    reason: str | None = None
    detail: str = ""

    @property
    def change(self) -> ChangeKind | None:
        """The kind to count it under: of several the one that changes most; None if nothing applied."""
        return max((step.kind for step in self.steps), key=CHANGE_KINDS.index, default=None)


@dataclass(frozen=True)
class TaxonomyChanges:
    """All changes, in the order in which they were made."""

    changes: tuple[Change, ...]
    _remembered: dict[tuple[LabelPath, bool], Carried] = field(default_factory=dict, compare=False, repr=False)

    def carry_over(self, label: LabelPath, *, forgiving: bool = False) -> Carried:
        """Carry a label of any older taxonomy over to the current one.

        Args:
            label: The label; one that no change names comes back as it is, known or not.
            forgiving: Whether case, spaces and Unicode form of names that changed are ignored.
        """
        key = (label, forgiving)
        carried = self._remembered.get(key)
        if carried is None:
            carried = self._carry(label, forgiving=forgiving)
            if len(self._remembered) < _MAX_REMEMBERED:
                self._remembered[key] = carried
        return carried

    def _carry(self, label: LabelPath, *, forgiving: bool) -> Carried:
        current: NodePath = label
        steps: list[Change] = []
        for change in self.changes:
            source = change.find_source(current, forgiving=forgiving)
            if source is None:
                continue
            steps.append(change)
            if change.goes_to is None:
                return Carried(label, tuple(steps), *_explain_set_aside(current, change))
            current = change.goes_to + current[len(source) :]
        l1, l2, l3, l4 = current
        return Carried((l1, l2, l3, l4), tuple(steps))


def _explain_set_aside(path: NodePath, change: Change) -> tuple[str, str]:
    if change.kind == "split":
        parts = ", ".join(repr(join_path(target)) for target in change.targets)
        return LABEL_SPLIT, f"the label {join_path(path)!r} was split into {parts} by {change.describe()}"
    return LABEL_RETIRED, f"the label {join_path(path)!r} was retired by {change.describe()}"


def _fold(path: NodePath) -> NodePath:
    return tuple(map(fold_name, path))


def parse_changes(text: str, origin: str, taxonomy: Taxonomy) -> TaxonomyChanges:
    """Read changes and make sure that every label has one way to go.

    Args:
        text: JSONL, the earliest change first.
        origin: Path or URI, for messages.
        taxonomy: The current taxonomy, to which the changes lead.

    Raises:
        TaxonomyError: With all mistakes and their lines: a change that cannot be read, a target that is not in the taxonomy,
            a path that is changed twice or is still there, a chain that comes back to where it began.
    """
    changes: list[Change] = []
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            changes.append(_parse_change(line, number))
        except ValueError as error:
            found.append((number, str(error)))
    for position, change in enumerate(changes):
        mistakes = check_change(change, changes[:position], changes[position + 1 :], taxonomy)
        found += [(change.line, mistake) for mistake in mistakes]
    problems = [f"line {number}: {mistake}" for number, mistake in sorted(found, key=lambda item: item[0])]
    if problems:
        more = f" and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise TaxonomyError(
            f"{origin} has {len(problems)} mistakes: {'; '.join(problems[:_MAX_LISTED])}{more}",
            expected="changes in the order in which they were made, that lead to the current taxonomy",
            remedy="correct the lines, or data.taxonomy if it is not the current one",
        )
    return TaxonomyChanges(tuple(changes))


def _parse_change(line: str, number: int) -> Change:
    """Read one line.

    Raises:
        ValueError: With what is wrong with it.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    kind = value.get("change") if isinstance(value, dict) else None
    if kind not in CHANGE_KINDS:
        raise ValueError(f"change is {kind!r:.60}, expected one of {', '.join(CHANGE_KINDS)}")
    allowed = {"change", *_KEYS[kind], *_NOTES, *(["rule"] if kind == "split" else [])}
    missing, unknown = sorted(_KEYS[kind] - value.keys()), sorted(value.keys() - allowed)
    if missing or unknown:
        said = [f"{name} is missing" for name in missing] + [f"{name!r:.60} is not a key of {kind}" for name in unknown]
        raise ValueError("; ".join(said))
    sources, targets = _parse_paths(value, "from", kind), _parse_paths(value, "to", kind)
    goes_to = targets[0] if kind in {"rename", "move", "merge"} else None
    if kind == "split":
        goes_to = _parse_rule(value.get("rule", "set_aside"), targets)
    version, date = (str(value.get(name, "")) for name in _NOTES)
    return Change(number, kind, sources, targets, goes_to, version, date)


def _parse_paths(value: Mapping[str, Any], key: str, kind: str) -> tuple[NodePath, ...]:
    if key not in value:
        return ()
    found = value[key]
    if _is_path(found):
        return (tuple(found),)
    if (kind, key) in _MANY and isinstance(found, list) and found and all(map(_is_path, found)):
        return tuple(map(tuple, found))
    many = " or a list of such paths" if (kind, key) in _MANY else ""
    raise ValueError(f"{key} is {found!r:.80}, expected a path of 1 to {len(LEVELS)} names without outer spaces{many}")


def _parse_rule(rule: Any, targets: tuple[NodePath, ...]) -> NodePath | None:
    if rule == "set_aside":
        return None
    target = rule.get("to") if isinstance(rule, dict) and rule.keys() == {"to"} else None
    if not _is_path(target) or tuple(target) not in targets:
        raise ValueError(f'rule is {rule!r:.80}, expected "set_aside" or {{"to": one of the paths under to}}')
    return tuple(target)


def _is_path(value: object) -> TypeGuard[list[str]]:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= len(LEVELS)
        and all(isinstance(name, str) and name and name == name.strip() for name in value)
    )


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
