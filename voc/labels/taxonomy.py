"""The label tree: four levels, a leaf is its full path, order and content hash travel with every artefact."""

from __future__ import annotations

import csv
import difflib
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from voc.errors import TaxonomyError
from voc.store.manifest import digest_json

LEVELS = ("L1", "L2", "L3", "L4")
TAXONOMY_COLUMNS = (*LEVELS, "description")
LabelPath = tuple[str, str, str, str]
NodePath = tuple[str, ...]
_MAX_LISTED = 10
# A file may hold any number of different unknown labels: the explanations are kept for so many.
_MAX_EXPLAINED = 50_000
_MAX_COMPARED_CHARS = 120


@dataclass(frozen=True, slots=True)
class Leaf:
    """One label: its path from L1 to L4 and what it means."""

    path: LabelPath
    description: str


@dataclass(frozen=True)
class Taxonomy:
    """All labels, in file order."""

    leaves: tuple[Leaf, ...]

    def __post_init__(self) -> None:
        problems: list[str] = []
        seen: set[LabelPath] = set()
        for number, leaf in enumerate(self.leaves, start=1):
            if any(not part or part != part.strip() for part in leaf.path):
                problems.append(f"leaf {number} {leaf.path}: an empty level or one with outer spaces")
            if leaf.path in seen:
                problems.append(f"leaf {number} {leaf.path}: the same path a second time")
            seen.add(leaf.path)
        problems += _find_lookalikes(self.leaves)
        if not self.leaves:
            problems.append("no leaves")
        if problems:
            more = f" and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
            raise TaxonomyError(
                f"the taxonomy has {len(problems)} mistakes: {'; '.join(problems[:_MAX_LISTED])}{more}",
                expected="one row per leaf, each full path once, no empty level, no two names that differ by case or spaces only",
                remedy="correct the file",
            )

    @cached_property
    def paths(self) -> frozenset[LabelPath]:
        """The full paths."""
        return frozenset(leaf.path for leaf in self.leaves)

    @cached_property
    def nodes(self) -> frozenset[NodePath]:
        """The full paths and every path above them."""
        return frozenset(leaf.path[:depth] for leaf in self.leaves for depth in range(1, len(LEVELS) + 1))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over paths, descriptions and order."""
        return digest_json([[*leaf.path, leaf.description] for leaf in self.leaves])

    def repair(self, path: LabelPath) -> LabelPath | None:
        """Return the leaf that differs from `path` by case, outer or doubled spaces or Unicode form only; None without one."""
        return self._by_folded_path.get(fold_path(path))

    def explain_unknown(self, path: LabelPath) -> str:
        """Say whether the leaf or a parent of an unknown path is wrong, the nearest name there, and where its leaf does exist."""
        explanation = self._explained.get(path)
        if explanation is None:
            explanation = self._explain(path)
            if len(self._explained) < _MAX_EXPLAINED:
                self._explained[path] = explanation
        return explanation

    def _explain(self, path: LabelPath) -> str:
        repaired = self.repair(path)
        if repaired == path:
            return "the path is known"
        if repaired is not None:
            return f"the label {join_path(path)!r} differs from {join_path(repaired)!r} only by case, spaces or Unicode form"
        depth = next(depth for depth in range(len(path)) if path[depth] not in self._children.get(path[:depth], ()))
        wrong = "the leaf" if depth == len(path) - 1 else "a parent"
        near = _find_nearest(path[depth], self._children[path[:depth]])
        problem = (
            f"{wrong} is wrong: {LEVELS[depth]} {path[depth]!r:.{_MAX_COMPARED_CHARS}} is not in the taxonomy under "
            f"{join_path(path[:depth]) or 'the root'}" + (f"; the nearest is {near!r}" if near else "")
        )
        elsewhere = self._parents_of_leaf.get(fold_name(path[-1]), ())
        if not elsewhere:
            return problem
        more = f" and {len(elsewhere) - 1} more" if len(elsewhere) > 1 else ""
        return f"{problem}; the leaf {path[-1]!r} exists under {join_path(elsewhere[0])!r}{more}"

    @cached_property
    def _by_folded_path(self) -> Mapping[LabelPath, LabelPath]:
        return {fold_path(leaf.path): leaf.path for leaf in self.leaves}

    @cached_property
    def _children(self) -> Mapping[NodePath, dict[str, None]]:
        """The names below each inner node, in file order."""
        children: dict[NodePath, dict[str, None]] = defaultdict(dict)
        for leaf in self.leaves:
            for depth, name in enumerate(leaf.path):
                children[leaf.path[:depth]][name] = None
        return dict(children)

    @cached_property
    def _parents_of_leaf(self) -> Mapping[str, list[NodePath]]:
        parents: dict[str, list[NodePath]] = defaultdict(list)
        for leaf in self.leaves:
            parents[fold_name(leaf.path[-1])].append(leaf.path[:-1])
        return dict(parents)

    @cached_property
    def _explained(self) -> dict[LabelPath, str]:
        return {}


def fold_name(name: str) -> str:
    """Return what is left of a name without case, outer or doubled spaces and differences of Unicode form.

    `lower` and not `casefold`: "Maße" (dimensions) and "Masse" (weight) stay two names.
    """
    return " ".join(unicodedata.normalize("NFC", name).lower().split())


def fold_path(path: LabelPath) -> LabelPath:
    """Fold every name of a path."""
    return fold_name(path[0]), fold_name(path[1]), fold_name(path[2]), fold_name(path[3])


def join_path(path: Iterable[str]) -> str:
    """Write a path for a reader."""
    return " > ".join(path)


def _find_lookalikes(leaves: Iterable[Leaf]) -> list[str]:
    """Describe nodes that only case, spaces or Unicode form tell apart: nobody could say which of them a label means."""
    problems: list[str] = []
    spelled: dict[NodePath, NodePath] = {}
    for number, leaf in enumerate(leaves, start=1):
        folded = fold_path(leaf.path)
        for depth in range(1, len(LEVELS) + 1):
            first = spelled.setdefault(folded[:depth], leaf.path[:depth])
            if first != leaf.path[:depth]:
                problems.append(
                    f"leaf {number} {leaf.path}: {LEVELS[depth - 1]} {leaf.path[depth - 1]!r} and the earlier "
                    f"{first[depth - 1]!r} differ only by case, spaces or Unicode form"
                )
                break
    return problems


def _find_nearest(name: str, siblings: Iterable[str]) -> str | None:
    """Return the sibling most like `name`, case aside; None if none is half like it."""
    by_folded_name = {fold_name(sibling): sibling for sibling in siblings}
    near = difflib.get_close_matches(fold_name(name[:_MAX_COMPARED_CHARS]), by_folded_name, n=1, cutoff=0.5)
    return by_folded_name[near[0]] if near else None


def parse_taxonomy(text: str, origin: str) -> Taxonomy:
    """Read a taxonomy CSV with the columns L1, L2, L3, L4, description.

    Raises:
        TaxonomyError: If a column is missing, a row is short, or the tree is broken.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    missing = [name for name in TAXONOMY_COLUMNS if name not in (reader.fieldnames or [])]
    if missing:
        raise TaxonomyError(
            f"{origin} lacks the columns {', '.join(missing)} (seen: {', '.join(reader.fieldnames or []) or 'none'})",
            expected=f"a CSV with the header {','.join(TAXONOMY_COLUMNS)}",
        )
    leaves = []
    for row in _rows(reader, origin):
        values = [row[name] for name in TAXONOMY_COLUMNS]
        if any(value is None for value in values):
            raise TaxonomyError(
                f"{origin}, line {reader.line_num}: fewer values than columns", remedy="correct the row"
            )
        leaves.append(Leaf((values[0], values[1], values[2], values[3]), values[4]))
    try:
        return Taxonomy(tuple(leaves))
    except TaxonomyError as error:
        raise TaxonomyError(f"{origin}: {error.problem}", expected=error.expected, remedy=error.remedy) from None


def _rows(reader: csv.DictReader[str], origin: str) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise TaxonomyError(f"{origin}, line {reader.line_num}: {error}", remedy="correct the row") from error


def format_taxonomy(leaves: Iterable[Leaf]) -> str:
    """Return the CSV text of some leaves."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(TAXONOMY_COLUMNS)
    writer.writerows([*leaf.path, leaf.description] for leaf in leaves)
    return out.getvalue()
