"""The label of a segment: as it is written, carried over from an older taxonomy, repaired, or refused with the level at fault."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from voc.labels.taxonomy import LEVELS, LabelPath, Taxonomy, join_path
from voc.records.checks import RowChecks
from voc.records.refusals import MISSING, RowError, get_text

if TYPE_CHECKING:
    from voc.labels.changes import TaxonomyChanges

# What may be noted about a label that is accepted.
REPAIRED_LABELS = "repaired_labels"
CARRIED_OVER = "carried_over:"  # followed by the kind of change: `carried_over:merge`

_WRITTEN_NAN = frozenset({"nan", "null", "none", "n/a", "<na>"})


@dataclass(frozen=True, slots=True)
class LabelReader:
    """How the labels of one row are read.

    Attributes:
        taxonomy: The labels that exist.
        checks: Whether a label may be repaired.
        changes: How labels of older taxonomies are carried over.
        noted: Gets a name for every label that is not taken as it is written.
    """

    taxonomy: Taxonomy
    checks: RowChecks
    changes: TaxonomyChanges | None
    noted: list[str]

    def read(self, segment: Mapping[str, Any]) -> LabelPath:
        """Return the label of a segment.

        A label of the current taxonomy is never looked up in the changes: `parse_changes` made sure that they leave it alone.

        Raises:
            RowError: `schema`, `not_a_number`, `label_retired`, `label_split` or `label_not_in_taxonomy`.
        """
        found = (segment.get("L1"), segment.get("L2"), segment.get("L3"), segment.get("L4"))
        try:
            if found in self.taxonomy.paths:
                return found  # type: ignore[return-value]
        except TypeError:  # a list cannot be looked up; what is wrong with it is said below
            pass
        return self._read_unknown(_check_names(segment))

    def _read_unknown(self, written: LabelPath) -> LabelPath:
        is_forgiving = self.checks.label_matching == "forgiving"
        label = written
        if self.changes is not None:
            carried = self.changes.carry_over(written, forgiving=is_forgiving)
            if carried.reason is not None:
                raise RowError(carried.reason, carried.detail)
            if carried.change is not None:
                label = carried.label
                self.noted.append(CARRIED_OVER + carried.change)
        if label in self.taxonomy.paths:
            return label
        repaired = self.taxonomy.repair(label) if is_forgiving else None
        if repaired is None:
            raise _refuse(written, label, self.taxonomy)
        self.noted.append(REPAIRED_LABELS)
        return repaired


def _check_names(segment: Mapping[str, Any]) -> LabelPath:
    for level in LEVELS:
        name = segment.get(level, MISSING)
        if name is None or (isinstance(name, float) and not math.isfinite(name)):
            raise RowError("not_a_number", f"{level} is {name}: the label was empty when it was exported")
    return get_text(segment, "L1"), get_text(segment, "L2"), get_text(segment, "L3"), get_text(segment, "L4")


def _refuse(written: LabelPath, label: LabelPath, taxonomy: Taxonomy) -> RowError:
    for level, name in zip(LEVELS, written, strict=True):
        if name.lower() in _WRITTEN_NAN:
            return RowError("not_a_number", f"{level} is {name!r}: an empty cell that was exported as a text")
    detail = taxonomy.explain_unknown(label)
    if taxonomy.repair(label) is not None:
        detail += " (data.label_matching: forgiving repairs it)"
    if label != written:
        detail += f" (carried over from {join_path(written)!r})"
    return RowError("label_not_in_taxonomy", detail)
