"""Says things in one language: fills slots, and builds the sentences of a segment from the language's word lists."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from benchmarks.study.taxonomy import EMOTIONS, Topic
from benchmarks.study.words import parse_phrase, read_lists

CUE_RATIO = 0.5  # segments whose opening words say what the customer feels
_STORY_RATIO = 0.35  # sentences of a long comment that tell what happened around the issue
# Ranges that the regulators of four countries keep for fiction, and the domain that nobody can own.
_PHONES = ("+1 202 555 01{:02d}", "+44 1632 9600{:02d}", "+49 30 231250{:02d}", "+33 1 99 00 00 {:02d}")

Filled = tuple[str, tuple[Callable[[], object], ...]]


class Speaker:
    """Draws phrases of one language.

    Args:
        language: Code of the language.
        rng: Where every choice comes from.
    """

    def __init__(self, language: str, rng: random.Random) -> None:
        lists = read_lists(language)
        self.language = language
        self._random = rng.random
        self._slots = self._make_slots({**read_lists("shared")["slots"], **lists["slots"]})
        self._predicates = self._compile_section(lists["predicates"])
        self._openers = self._compile_section(lists["openers"])
        self._tails = self._compile_section(lists["tails"])["any"]
        self._more = self._compile_section(lists["more"])
        self._frame = self._compile_section(lists["frame"])
        self._unlabelled = self._compile_section(lists["unlabelled"])["any"]
        self._cued = frozenset(EMOTIONS)

    def say(self, topic: Topic, emotion: str | None) -> str:
        """Return one sentence about a topic; an emotion is put into its opening words."""
        noun = topic.nouns[self.language]
        predicate = self._draw(self._predicates[topic.issue.slug])
        opener = self._draw(self._openers[emotion or "any"])
        if opener:
            start = _capitalise(noun) if opener[-1] in "!?" else noun
            text = f"{opener} {start} {predicate}"
        else:
            text = f"{_capitalise(noun)} {predicate}"
        if text[-1] == "?":
            return text
        if "," not in predicate and ":" not in predicate:
            tail = self._draw(self._tails)
            if tail:
                text = f"{text} {tail}"
        return f"{text}{'!' if emotion in ('anger', 'delight') and self._random() < 0.5 else '.'}"

    def elaborate(self, topic: Topic, count: int, used: set[str]) -> list[str]:
        """Return up to `count` further sentences that fit the issue; a template in `used` is not used again."""
        valence = topic.issue.valence
        fitting = self._more["wish" if valence == "question" else valence]
        sentences = []
        for _ in range(count):
            source = self._more["story"] if count > 2 and self._random() < _STORY_RATIO else fitting
            phrase = source[int(self._random() * len(source))]
            if phrase[0] not in used:
                used.add(phrase[0])
                sentences.append(self._fill(phrase))
        return sentences

    def say_nothing(self) -> str:
        """Return a comment in which nothing has a label."""
        return self._draw(self._unlabelled)

    def greet(self) -> str:
        """Return the first words of a message."""
        return self._draw(self._frame["greeting"])

    def close(self) -> str:
        """Return the last words of a message."""
        return self._draw(self._frame["closing"])

    def _compile_section(self, section: dict[str, tuple[str, ...]]) -> dict[str, Sequence[Filled]]:
        return {name: [self._compile(text) for text in texts] for name, texts in section.items()}

    def _compile(self, text: str) -> Filled:
        phrase = parse_phrase(text)
        return phrase.pattern, tuple(self._slots[name] for name in phrase.slots)

    def _draw(self, phrases: Sequence[Filled]) -> str:
        return self._fill(phrases[int(self._random() * len(phrases))])

    def _fill(self, phrase: Filled) -> str:
        return phrase[0] % tuple([slot() for slot in phrase[1]])

    def _make_slots(self, choices: dict[str, tuple[str, ...]]) -> dict[str, Callable[[], object]]:
        draw = self._random

        def choose(values: tuple[str, ...]) -> Callable[[], object]:
            size = len(values)
            return lambda: values[int(draw() * size)]

        slots: dict[str, Callable[[], object]] = {name: choose(values) for name, values in choices.items()}
        slots["n"] = lambda: 3 + int(draw() * 27)
        slots["t"] = lambda: f"{int(draw() * 24)}:{int(draw() * 12) * 5:02d}"
        slots["v"] = lambda: f"{2 + int(draw() * 5)}.{int(draw() * 20)}.{int(draw() * 10)}"
        slots["order"] = lambda: f"NF-{int(draw() * 9_000_000) + 1_000_000}"
        slots["phone"] = lambda: _PHONES[int(draw() * len(_PHONES))].format(int(draw() * 100))
        name = slots["name"]
        slots["mail"] = lambda: f"{str(name()).lower()}{int(draw() * 1000)}@example.com"
        return slots


def _capitalise(text: str) -> str:
    return text[0].upper() + text[1:]
