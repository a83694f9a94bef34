"""How labels of older taxonomies are carried over to the current one, or set aside by rule.

The changes are JSONL, in the order in which they were made:

    {"change": "add", "to": PATH}
    {"change": "rename", "from": PATH, "to": PATH}      the same meaning under another name
    {"change": "move", "from": PATH, "to": PATH}        the same meaning in another place
    {"change": "merge", "from": [PATH, ...], "to": PATH}
    {"change": "split", "from": PATH, "to": [PATH, ...], "rule": "set_aside" or {"to": PATH}}
    {"change": "retire", "from": PATH}

A path is a list of one to four names. Rename, move, merge and retire may name an inner node and then apply to every leaf below
it. `version` and `date` are notes for readers. Rows carry no taxonomy version, so a name that was given up is never used again:
`parse_changes` refuses a file in which a label could mean two things.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard, get_args

from voc.errors import TaxonomyError
from voc.labels.change_checks import check_change
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
