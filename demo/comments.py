"""Customer feedback with its labels: a taxonomy of 60 leaves and comments of one to three segments.

Leaves are drawn with Zipf weights, so the classes are as uneven as in real feedback. A segment is a sentence about one
aspect (which gives L1 to L3) with one issue (which gives L4 and the emotion), in one of some hundred wordings per leaf.
One label in twenty is a sibling's, in training and in the test, as where people label: nobody reaches 1.0.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from voc.labels.taxonomy import LabelPath, Leaf, Taxonomy
from voc.records.records import Segment, VocRecord

MAX_SEGMENTS = 3
LABEL_NOISE_RATIO = 0.05
_SEGMENT_COUNT_WEIGHTS = (3, 4, 3)


@dataclass(frozen=True, slots=True)
class Aspect:
    """What a sentence is about, and the issues that it can have."""

    path: tuple[str, str, str]
    nouns: tuple[str, ...]
    issues: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Issue:
    """What is said about it."""

    description: str
    emotion: str
    phrases: tuple[str, ...]


_TABLES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
ISSUES = {
    name: Issue(row["description"], row["emotion"], tuple(row["phrases"])) for name, row in _TABLES["issues"].items()
}
ASPECTS = tuple(Aspect(*(tuple(row[name]) for name in ("path", "nouns", "issues"))) for row in _TABLES["aspects"])
OPENERS, CLOSERS = _TABLES["openers"], _TABLES["closers"]


def make_taxonomy() -> Taxonomy:
    """Return the 60 leaves."""
    return Taxonomy(
        tuple(
            Leaf((*aspect.path, name), f"the {' or '.join(aspect.nouns)} {ISSUES[name].description}")
            for aspect in ASPECTS
            for name in aspect.issues
        )
    )


def make_records(seed: int, train_count: int, test_count: int) -> tuple[list[VocRecord], list[VocRecord]]:
    """Draw training and test records; every comment is unique over both."""
    rng = random.Random(f"{seed}/comments")
    leaves = [(aspect, name) for aspect in ASPECTS for name in aspect.issues]
    rng.shuffle(leaves)
    weights = [1 / rank for rank in range(1, len(leaves) + 1)]
    drawn: dict[str, list[Segment]] = {}
    while len(drawn) < train_count + test_count:
        segments = _draw_segments(rng, leaves, weights)
        drawn.setdefault(" ".join(segment.content for segment in segments), segments)
    records = [
        VocRecord(
            f"train-{index:05d}" if index < train_count else f"test-{index - train_count:05d}", comment, tuple(segments)
        )
        for index, (comment, segments) in enumerate(drawn.items())
    ]
    return records[:train_count], records[train_count:]


def comment_words() -> list[str]:
    """Return every word that a comment can hold after its first, for exercises that know nothing of labels."""
    texts = [noun for aspect in ASPECTS for noun in aspect.nouns]
    texts += [phrase for issue in ISSUES.values() for phrase in issue.phrases]
    texts += [*(opener.partition(" ")[2] for opener in OPENERS), *CLOSERS]
    return sorted({word for text in texts for word in text.split()})


def score_look_up(train: Sequence[VocRecord], test: Sequence[VocRecord]) -> float:
    """Return the micro F1 (0..1) of looking up training segments in test comments: what no learning at all can reach."""
    labels: defaultdict[str, Counter[LabelPath]] = defaultdict(Counter)
    for record in train:
        for segment in record.segments:
            labels[segment.content][segment.label] += 1
    hits = predicted = expected = 0
    for record in test:
        sentences = [f"{part.rstrip('.')}." for part in record.comment.split(". ")]
        found = {labels[text].most_common(1)[0][0] for text in sentences if text in labels}
        gold = {segment.label for segment in record.segments}
        hits += len(found & gold)
        predicted += len(found)
        expected += len(gold)
    return 2 * hits / (predicted + expected)


def _draw_segments(rng: random.Random, leaves: Sequence[tuple[Aspect, str]], weights: Sequence[float]) -> list[Segment]:
    count = rng.choices(range(1, MAX_SEGMENTS + 1), _SEGMENT_COUNT_WEIGHTS)[0]
    chosen: dict[LabelPath, Segment] = {}
    while len(chosen) < count:
        aspect, name = rng.choices(leaves, weights)[0]
        issue = ISSUES[name]
        noun, phrase = rng.choice(aspect.nouns), rng.choice(issue.phrases)
        content = f"{rng.choice(OPENERS)} {noun} {phrase}{rng.choice(CLOSERS)}."
        if rng.random() < LABEL_NOISE_RATIO:
            name = rng.choice([other for other in aspect.issues if other != name])
        label: LabelPath = (*aspect.path, name)
        chosen.setdefault(label, Segment(content, label, issue.emotion))
    return list(chosen.values())
