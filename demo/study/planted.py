"""Plants a small known number of duplicates into the training comments, for whoever tests how they are found.

Three kinds, 40 rows: `exact` (the same comment and labels), `conflict` (the same comment with a sibling's label on its
first segment) and `near` (a comment of 45 words or more with one word mistyped: word-3-gram Jaccard 0.85 or more). Each copy
stands 150 rows after the row that was 0 to 149 rows earlier than its plan says. All of them are in the first 14,511 rows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from demo.study.comments import Comment
from demo.study.taxonomy import list_topics
from demo.study.typos import add_typos
from voc.records.records import Segment, VocRecord

PLANTED = {"exact": 12, "conflict": 4, "near": 24}
# Pairs of other training comments with a Jaccard of 0.8 or more: short ones that differ in their first or last words.
OTHER_NEAR_PAIRS = 28  # at scale 1; a test counts them
_FIRST, _EVERY, _DELAY = 200, 340, 150
_NEAR_WORDS = 45

PlantedPair = tuple[str, str, str]


def plant_duplicates(comments: Iterator[Comment], seed: int, pairs: list[PlantedPair]) -> Iterator[Comment]:
    """Give the comments with copies between them, and append (kind, id of the copy, id of the original) to `pairs`.

    A copy takes the id of its place, so that ids stay distinct and in order.
    """
    rng = random.Random(f"{seed}/planted")
    kinds = [kind for kind, count in PLANTED.items() for _ in range(count)]
    rng.shuffle(kinds)
    original: Comment | None = None
    for number, comment in enumerate(comments):
        step, place = divmod(number - _FIRST, _EVERY)
        if not 0 <= step < len(kinds):
            yield comment
        elif place < _DELAY:
            if original is None and _is_fit(comment, kinds[step]):
                original = comment
            yield comment
        elif original is not None:
            copy = _copy(original, comment.record.id, kinds[step], rng)
            pairs.append((kinds[step], copy.record.id, original.record.id))
            original = None
            yield copy
        else:
            yield comment


def _is_fit(comment: Comment, kind: str) -> bool:
    record = comment.record
    if kind != "near":
        return bool(record.segments)
    return len(record.segments) > 0 and len(record.comment.split()) >= _NEAR_WORDS


def _copy(comment: Comment, identifier: str, kind: str, rng: random.Random) -> Comment:
    record = comment.record
    first = record.segments[0]
    if kind == "conflict":
        siblings = [t.path for t in list_topics() if t.path[:3] == first.label[:3] and t.path != first.label]
        segments = (replace(first, label=rng.choice(siblings)), *record.segments[1:])
        return replace(comment, record=replace(record, id=identifier, segments=segments))
    if kind == "near":
        return replace(
            comment, record=_mistype(record, identifier, rng), traits=tuple(sorted({*comment.traits, "typo"}))
        )
    return replace(comment, record=replace(record, id=identifier))


def _mistype(record: VocRecord, identifier: str, rng: random.Random) -> VocRecord:
    first = record.segments[0]
    content = first.content
    while content == first.content:
        content = add_typos(first.content, 1, rng)
    segments = (Segment(content, first.label, first.emotion), *record.segments[1:])
    return replace(record, id=identifier, comment=record.comment.replace(first.content, content, 1), segments=segments)
