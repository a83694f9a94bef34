"""What a run's data looks like: rows, refusals, tokens, and how the labels are distributed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from training.data import EncodedSource
from voc.records import Accepted, GeneralRecord, Rejection, VocRecord
from voc.taxonomy import LEVELS

PATH_SEPARATOR = " > "
SourceContent = tuple[tuple[VocRecord | GeneralRecord, ...], tuple[Rejection, ...], EncodedSource]


def build_report(test: Accepted[VocRecord], sources: Mapping[str, SourceContent]) -> dict[str, Any]:
    """Count everything that `data_report.json` shows.

    Args:
        test: The test set.
        sources: For each source its accepted records, its refusals and its tokens.
    """
    train = [record for records, _, _ in sources.values() for record in records if isinstance(record, VocRecord)]
    comments = {record.comment for record in train}
    files: dict[str, Any] = {"test": {"rows": len(test.rows), "refused": test.counts}}
    for name, (records, rejections, encoded) in sources.items():
        files[name] = _describe_source(records, rejections, encoded)
    return {
        "files": files,
        "classes": {"train": count_classes(train), "test": count_classes(test.rows)},
        "test_comments_in_training": sum(record.comment in comments for record in test.rows),
    }


def count_classes(records: Iterable[VocRecord]) -> dict[str, dict[str, int]]:
    """Count segments per label of each level, per full path, and per emotion; the most frequent first."""
    counters: dict[str, Counter[str]] = {name: Counter() for name in (*LEVELS, "path", "emotion", "segments")}
    for record in records:
        counters["segments"][str(len(record.segments))] += 1
        for segment in record.segments:
            for depth, level in enumerate(LEVELS):
                counters[level][PATH_SEPARATOR.join(segment.label[: depth + 1])] += 1
            counters["path"][PATH_SEPARATOR.join(segment.label)] += 1
            counters["emotion"][segment.emotion] += 1
    return {name: dict(counter.most_common()) for name, counter in counters.items()}


def _describe_source(
    records: tuple[VocRecord | GeneralRecord, ...], rejections: tuple[Rejection, ...], encoded: EncodedSource
) -> dict[str, Any]:
    categories = Counter(record.category for record in records if isinstance(record, GeneralRecord))
    return {
        "rows": len(records),
        "refused": Accepted(records, rejections).counts,
        "tokens": int(encoded.lengths.sum()),
        "learned_tokens": int(encoded.num_targets.sum()),
        "longest_tokens": int(encoded.lengths.max()),
        "categories": dict(categories.most_common()),
    }
