"""Counts what a study corpus holds: while it is written, and again from its files.

The length of the prompt that names all leaves is an estimate: `voc.prompts.render_system("taxonomy", ...)` of this taxonomy
has 206,874 characters and, counted once in November 2026 with the public BPE ranks of Qwen (151,643 entries, as shipped in
the package dashscope) under Qwen's splitting pattern, 42,260 tokens: 4.895 characters per token. The estimate divides by
that ratio, so no vocabulary has to be at hand; it holds for English sentences like these and for vocabularies of that size.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from demo.study.comments import EMOJI
from voc.labels.taxonomy import LEVELS, LabelPath, Taxonomy
from voc.prompts import render_system
from voc.records.records import GeneralRecord, Segment, VocRecord

PROMPT_CHARACTERS_PER_TOKEN = 4.895
PROMPT_ORIGIN = (
    "206,874 characters were 42,260 tokens with the public BPE ranks of Qwen (151,643 entries, from the package dashscope), "
    "counted once in November 2026"
)
LENGTH_EDGES = (0, 25, 50, 75, 100, 150, 200, 300, 400, 600, 800, 1000, 2000)
_EMOJI = re.compile("|".join(sorted(set(chain.from_iterable(EMOJI.values())))))


class CommentCounter:
    """Counts comments one by one in memory that does not grow with their number."""

    def __init__(self) -> None:
        self.rows = self.characters = self.covered = self.not_in_order = self.with_emoji = self.longest = 0
        self.leaves: Counter[LabelPath] = Counter()
        self.per_comment: Counter[int] = Counter()
        self.languages: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.emotions: Counter[str] = Counter()
        self.days: set[str] = set()
        self.lengths = [0] * len(LENGTH_EDGES)

    def add(self, record: VocRecord) -> None:
        """Count one comment."""
        size = len(record.comment)
        self.rows += 1
        self.longest = max(self.longest, size)
        self.lengths[bisect(LENGTH_EDGES, size) - 1] += 1
        self.per_comment[len(record.segments)] += 1
        self.languages[record.extra["lang"]] += 1
        self.sources[record.extra["source"]] += 1
        self.days.add(record.extra["created_at"][:10])
        self.with_emoji += _EMOJI.search(record.comment) is not None
        position = 0
        for segment in record.segments:
            found = record.comment.find(segment.content, position)
            self.not_in_order += found < 0
            position = found + len(segment.content) if found >= 0 else position
            self.covered += len(segment.content)
            self.leaves[segment.label] += 1
            self.emotions[segment.emotion] += 1
        self.characters += size if record.segments else 0

    def summarise(self) -> dict[str, Any]:
        """Return the figures; shares are 0..1, lengths in characters."""
        rows = max(self.rows, 1)
        return {
            "rows": self.rows,
            "segments": sum(self.leaves.values()),
            "segments_per_comment": {str(size): self.per_comment[size] for size in sorted(self.per_comment)},
            "unlabelled_share": round(self.per_comment[0] / rows, 4),
            "segments_not_verbatim_in_order": self.not_in_order,
            "characters_in_segments_share": round(self.covered / max(self.characters, 1), 4),
            "languages": dict(self.languages.most_common()),
            "sources": dict(self.sources.most_common()),
            "emotions": dict(self.emotions.most_common()),
            "emoji_share": round(self.with_emoji / rows, 4),
            "days": [min(self.days, default=""), max(self.days, default=""), len(self.days)],
            "longest": self.longest,
            "lengths": {"edges": list(LENGTH_EDGES), "counts": self.lengths},
        }


def describe_classes(train: Counter[LabelPath], test: Counter[LabelPath], taxonomy: Taxonomy) -> dict[str, Any]:
    """Return how uneven the leaves are in training, and how much of the test they cover."""
    counts = [train[leaf.path] for leaf in taxonomy.leaves]
    unseen = sum(count for path, count in test.items() if not train[path])
    return {
        "leaves": len(counts),
        "per_level": {name: len({p[: n + 1] for p in taxonomy.paths}) for n, name in enumerate(LEVELS)},
        "head": sorted(counts, reverse=True)[:10],
        "without_examples": counts.count(0),
        "with_one": counts.count(1),
        "below_five": sum(count < 5 for count in counts),
        "ranked": sorted(counts, reverse=True),
        "test_leaves": len(test),
        "test_leaves_unseen_in_training": sum(not train[path] for path in test),
        "test_segments_unseen_share": round(unseen / max(sum(test.values()), 1), 4),
    }


def describe_prompt(taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the estimated length of the prompt that names all leaves."""
    characters = len(render_system("taxonomy", taxonomy))
    return {
        "characters": characters,
        "tokens_estimate": round(characters / PROMPT_CHARACTERS_PER_TOKEN),
        "characters_per_token": PROMPT_CHARACTERS_PER_TOKEN,
        "origin": PROMPT_ORIGIN,
    }


class GeneralCounter:
    """Counts general rows one by one."""

    def __init__(self) -> None:
        self.categories: Counter[str] = Counter()
        self.turns: Counter[int] = Counter()
        self.characters = 0
        self.lengths = [0] * len(LENGTH_EDGES)

    def add(self, record: GeneralRecord) -> None:
        """Count one chat."""
        size = sum(len(message["content"]) for message in record.messages)
        self.categories[record.category] += 1
        self.turns[sum(message["role"] == "assistant" for message in record.messages)] += 1
        self.characters += size
        self.lengths[bisect(LENGTH_EDGES, size) - 1] += 1

    def summarise(self) -> dict[str, Any]:
        """Return the figures; lengths in characters."""
        return {
            "rows": sum(self.categories.values()),
            "categories": dict(self.categories.most_common()),
            "assistant_turns": {str(count): self.turns[count] for count in sorted(self.turns)},
            "characters": self.characters,
            "lengths": {"edges": list(LENGTH_EDGES), "counts": self.lengths},
        }


def measure_corpus(folder: Path, taxonomy: Taxonomy) -> dict[str, Any]:
    """Count a written corpus again, from its files alone, one row at a time."""
    train, test, general = CommentCounter(), CommentCounter(), GeneralCounter()
    for name, counter in (("train", train), ("test", test)):
        for row in _read_objects(folder / f"{name}.jsonl"):
            counter.add(_to_record(row))
    for row in _read_objects(folder / "general.jsonl"):
        general.add(GeneralRecord(messages=tuple(row["messages"]), category=row["category"]))
    return summarise(train, test, general, taxonomy)


def summarise(
    train: CommentCounter, test: CommentCounter, general: GeneralCounter, taxonomy: Taxonomy
) -> dict[str, Any]:
    """Put the figures of all files together."""
    return {
        "train": train.summarise(),
        "test": test.summarise(),
        "general": general.summarise(),
        "classes": describe_classes(train.leaves, test.leaves, taxonomy),
        "prompt": describe_prompt(taxonomy),
    }


def _read_objects(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _to_record(row: Mapping[str, Any]) -> VocRecord:
    segments = tuple(Segment(s["content"], (s["L1"], s["L2"], s["L3"], s["L4"]), s["emotion"]) for s in row["segments"])
    return VocRecord(row["id"], row["comment"], segments, {k: row[k] for k in ("lang", "source", "created_at")})
