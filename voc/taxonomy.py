"""The label tree: four levels, a leaf is its full path, order and content hash travel with every artefact."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from voc.errors import TaxonomyError
from voc.manifest import digest_json

LEVELS = ("L1", "L2", "L3", "L4")
TAXONOMY_COLUMNS = (*LEVELS, "description")
LabelPath = tuple[str, str, str, str]
_MAX_LISTED = 10


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
        if not self.leaves:
            problems.append("no leaves")
        if problems:
            more = f" and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
            raise TaxonomyError(
                f"the taxonomy has {len(problems)} mistakes: {'; '.join(problems[:_MAX_LISTED])}{more}",
                expected="one row per leaf, each full path once, no empty level",
                remedy="correct the file",
            )

    @cached_property
    def paths(self) -> frozenset[LabelPath]:
        """The full paths."""
        return frozenset(leaf.path for leaf in self.leaves)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over paths, descriptions and order."""
        return digest_json([[*leaf.path, leaf.description] for leaf in self.leaves])

    def explain_unknown(self, path: LabelPath) -> str:
        """Say at which level an unknown path leaves the tree, and the nearest label there."""
        known: list[LabelPath] = [leaf.path for leaf in self.leaves]
        for depth, name in enumerate(path):
            siblings = sorted({p[depth] for p in known})
            if name not in siblings:
                near = difflib.get_close_matches(name, siblings, n=1, cutoff=0.5)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                parent = " > ".join(path[:depth]) or "the root"
                return f"{LEVELS[depth]} {name!r} is not in the taxonomy under {parent}{hint}"
            known = [p for p in known if p[depth] == name]
        return "the path is known"


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
