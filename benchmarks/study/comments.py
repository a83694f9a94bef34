"""Composes comments with their gold segments: one to four issues each, in eight languages, as people write them.

The segments of a comment are pieces of it in its order that do not overlap. Together they are the whole comment except for
what stands between them (spaces, line ends, list marks, commas) and, in letters, the greeting and the closing.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from benchmarks.study.distinct import NearTexts, SeenTexts, split_words
from benchmarks.study.speaker import CUE_RATIO, Speaker
from benchmarks.study.taxonomy import Topic, list_topics, weigh_topics
from benchmarks.study.typos import add_typos
from benchmarks.study.words import LANGUAGES
from voc.records.records import Segment, VocRecord

LANGUAGE_SHARES = dict(zip(LANGUAGES, (0.36, 0.2, 0.13, 0.1, 0.07, 0.05, 0.05, 0.04), strict=True))
SEGMENT_SHARES = (0.42, 0.33, 0.17, 0.08)  # of one to four segments
UNLABELLED_RATIO, MIXED_RATIO, TYPO_RATIO, LONG_RATIO = 0.04, 0.04, 0.14, 0.005
LABEL_NOISE_RATIO = 0.03  # segments that carry a sibling's label, as where people label
DAYS = 120
EMOJI = {
    "anger": ("😡", "🤬", "👎"),
    "frustration": ("😤", "🙄", "😩"),
    "disappointment": ("😞", "😕", "👎"),
    "worry": ("😟", "😨", "🙏"),
    "confusion": ("🤔", "😵", "❓"),
    "neutral": ("🙂", "💡"),
    "satisfaction": ("👍", "🙂", "👌"),
    "delight": ("😍", "🎉", "❤️", "🤩"),
}


@dataclass(frozen=True, slots=True)
class Style:
    """How people write in one place.

    Attributes:
        share: Share of the comments.
        letter: Share that have a greeting and a closing.
        casual: Share without capital letters and full stops.
        emoji: Share with an emoji.
        more: Highest number of further sentences in a segment.
        separators: What stands between segments: before the first one, and before each other one.
    """

    share: float
    letter: float
    casual: float
    emoji: float
    more: int
    separators: tuple[tuple[str, str], ...]


STYLES = {
    "app_store": Style(0.34, 0.0, 0.3, 0.25, 1, (("", " "), ("", " "), ("", "\n"))),
    "web_survey": Style(0.22, 0.0, 0.25, 0.05, 1, (("", " "), ("- ", "\n- "), ("", "\n"), ("", " / "))),
    "web_shop": Style(0.16, 0.0, 0.1, 0.12, 2, (("", " "), ("", "\n"))),
    "support_mail": Style(0.14, 0.85, 0.03, 0.02, 3, (("", " "), ("", "\n\n"), ("", "\n"))),
    "social_media": Style(0.09, 0.0, 0.5, 0.4, 0, (("", " "), ("", " ... "))),
    "call_notes": Style(0.05, 0.0, 0.4, 0.0, 1, (("", " / "), ("", " - "))),
}
_LONG = Style(0.0, 0.6, 0.0, 0.02, 8, (("", " "), ("", "\n\n")))


@dataclass(frozen=True, slots=True)
class Comment:
    """A record and what was done to its text: any of typo, emoji, mixed, unlabelled, long."""

    record: VocRecord
    traits: tuple[str, ...]


def write_comments(prefix: str, seed: int, seen: SeenTexts, avoided: NearTexts) -> Iterator[Comment]:
    """Give comments without end.

    Args:
        prefix: Of the ids; decides with `seed` what is drawn.
        seed: Decides which labels are frequent.
        seen: Remembers every comment, so that each one is given once.
        avoided: No comment is near one of these.
    """
    writer = CommentWriter(random.Random(f"{seed}/{prefix}"), seed)
    number = 0
    while True:
        comment = writer.draw(f"{prefix}-{number:07d}")
        words = split_words(comment.record.comment)
        if not avoided.is_near(words) and seen.add(words):
            number += 1
            yield comment


class CommentWriter:
    """Draws comments.

    Args:
        rng: Where every choice comes from.
        seed: Decides which labels are frequent.
    """

    def __init__(self, rng: random.Random, seed: int) -> None:
        self._rng = rng
        self._random = rng.random
        self._speakers = [Speaker(code, rng) for code in LANGUAGES]
        self._languages = list(accumulate(LANGUAGE_SHARES.values()))
        self._sources, self._styles = list(STYLES), list(STYLES.values())
        self._source_shares = list(accumulate(style.share for style in self._styles))
        self._sizes = list(accumulate(SEGMENT_SHARES))
        self._topics, self._weights = weigh_topics(seed)
        self._siblings: dict[tuple[str, ...], list[Topic]] = {}
        for topic in list_topics():
            self._siblings.setdefault(topic.path[:3], []).append(topic)
        self._days = _list_days()

    def draw(self, identifier: str) -> Comment:
        """Return one comment."""
        speaker = self._speakers[self._pick(self._languages)]
        where = self._pick(self._source_shares)
        style = self._styles[where]
        extra = {"lang": speaker.language, "source": self._sources[where], "created_at": self._draw_time()}
        if self._random() < UNLABELLED_RATIO:
            return Comment(VocRecord(identifier, speaker.say_nothing(), (), extra), ("unlabelled",))
        traits: list[str] = []
        if self._random() < LONG_RATIO:
            style = _LONG
            traits.append("long")
        segments = self._draw_segments(speaker, style, traits)
        text = self._assemble(segments, speaker, style)
        return Comment(VocRecord(identifier, text, tuple(segments), extra), tuple(traits))

    def _pick(self, cumulative: list[float]) -> int:
        return min(bisect(cumulative, self._random()), len(cumulative) - 1)

    def _draw_topics(self, count: int) -> list[Topic]:
        chosen: dict[int, None] = {}
        last = len(self._topics) - 1
        while len(chosen) < count:
            chosen[min(bisect(self._weights, self._random()), last)] = None
        return [self._topics[rank] for rank in chosen]

    def _draw_segments(self, speaker: Speaker, style: Style, traits: list[str]) -> list[Segment]:
        size = 4 if style is _LONG else 1 + self._pick(self._sizes)
        topics = self._draw_topics(size)
        casual = self._random() < style.casual
        damaged = int(self._random() * size) if self._random() < TYPO_RATIO else -1
        decorated = int(self._random() * size) if self._random() < style.emoji else -1
        other = self._speakers[self._pick(self._languages)] if self._random() < MIXED_RATIO else speaker
        foreign = max(size - 1, 0) if other is not speaker else -1
        used: set[str] = set()
        segments = []
        for index, topic in enumerate(topics):
            cued = self._random() < CUE_RATIO
            feelings = topic.issue.emotions
            emotion = feelings[int(self._random() * len(feelings))] if cued else feelings[0]
            teller = other if index == foreign and size > 1 else speaker
            parts = [teller.say(topic, emotion if cued else None)]
            if style.more:
                count = (4 if style is _LONG else 0) + int(self._random() * (style.more + 1) * 0.8)
                parts += (other if index == foreign else speaker).elaborate(topic, count, used)
            if index == foreign and size == 1 and len(parts) == 1:
                parts += other.elaborate(topic, 1, used)
            text = " ".join(parts)
            text = _relax(text) if casual else text
            if index == damaged:
                text = add_typos(text, 1 + int(self._random() * 3), self._rng)
            if index == decorated:
                text = f"{text} {self._draw_emoji(emotion)}"
            segments.append(Segment(text, self._label(topic), emotion))
        traits += [name for name, at in (("typo", damaged), ("emoji", decorated), ("mixed", foreign)) if at >= 0]
        return segments

    def _label(self, topic: Topic) -> tuple[str, str, str, str]:
        if self._random() >= LABEL_NOISE_RATIO:
            return topic.path
        siblings = self._siblings[topic.path[:3]]
        return siblings[int(self._random() * len(siblings))].path

    def _assemble(self, segments: list[Segment], speaker: Speaker, style: Style) -> str:
        first, between = style.separators[int(self._random() * len(style.separators))]
        text = first + between.join([segment.content for segment in segments])
        if self._random() < style.letter:
            return f"{speaker.greet()}\n{text}\n{speaker.close()}"
        return text

    def _draw_emoji(self, emotion: str) -> str:
        choices = EMOJI[emotion]
        return choices[int(self._random() * len(choices))] * (1 + int(self._random() * 1.3))

    def _draw_time(self) -> str:
        second = int(self._random() * 86_400)
        day = self._days[int(self._random() * DAYS)]
        return f"{day}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}Z"


def _relax(text: str) -> str:
    """Write as on a phone: a small first letter and no full stop at the end."""
    return text[0].lower() + text[1:].removesuffix(".")


def _list_days() -> list[str]:
    from datetime import date, timedelta

    last = date(2026, 11, 24)
    return [(last - timedelta(days=DAYS - 1 - index)).isoformat() for index in range(DAYS)]
