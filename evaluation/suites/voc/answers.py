"""One test comment beside what a model said about it: what every VOC measure reads."""

from __future__ import annotations

from dataclasses import dataclass

from voc.labels.taxonomy import LabelPath
from voc.records.records import Segment, VocRecord


@dataclass(frozen=True, slots=True)
class VocAnswer:
    """What a model said about one test comment.

    Attributes:
        record: The comment with its gold segments.
        segments: Predicted segments of the lenient parse, none after a failure.
        failure: Why the answer could not be read, or None.
        strict: Whether the whole answer was the list that was asked for.
        repair: What the lenient parse had to look past, or None.
    """

    record: VocRecord
    segments: tuple[Segment, ...]
    failure: str | None
    strict: bool
    repair: str | None = None

    @property
    def predicted(self) -> frozenset[LabelPath]:
        """The set of predicted label paths."""
        return frozenset(segment.label for segment in self.segments)

    @property
    def predicted_strictly(self) -> frozenset[LabelPath]:
        """The same, but nothing where the strict parse fails."""
        return self.predicted if self.strict else frozenset()

    @property
    def gold(self) -> frozenset[LabelPath]:
        """The set of gold label paths."""
        return frozenset(segment.label for segment in self.record.segments)
