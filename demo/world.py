"""A closed world of facts: eight subjects, twelve entities each, three attributes, four values per attribute.

Every value belongs to exactly three entities of its subject, so no value is a better guess than another (chance is 0.25),
and the options of a question are always the attribute's four values in alphabetical order. Half of the facts are
*replayed* (they may appear in the general part of a training mixture), half never are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from voc.prompts import MMLU_LETTERS

Slice = Literal["replayed", "not replayed"]
REPLAYED: Slice = "replayed"
NOT_REPLAYED: Slice = "not replayed"
ENTITIES_PER_SUBJECT = 12

# subject (as MMLU writes it) -> what one entity is called, and attributes with their values
SUBJECTS: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
_ONSETS = ("B", "Br", "D", "Dr", "F", "G", "H", "K", "L", "M", "N", "P", "R", "S", "T", "V", "Z")
_MIDDLES = ("al", "an", "ar", "el", "en", "il", "in", "ol", "or", "ul", "um", "yr")
_ENDINGS = ("bane", "dora", "fex", "gast", "kith", "lune", "mora", "nix", "pell", "quor", "rath", "suma", "vek", "zaro")


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that can be known.

    Attributes:
        subject: Name of the subject, as MMLU writes it.
        kind: What the entity is.
        entity: Its invented name.
        attribute: What is asked.
        options: The attribute's four values, alphabetical.
        value: The right one.
        slice: Whether the general part of a mixture may replay it.
    """

    subject: str
    kind: str
    entity: str
    attribute: str
    options: tuple[str, str, str, str]
    value: str
    slice: Slice

    @property
    def letter(self) -> str:
        """The right option's letter."""
        return MMLU_LETTERS[self.options.index(self.value)]


@dataclass(frozen=True)
class World:
    """All facts, in a fixed order."""

    facts: tuple[Fact, ...]

    @cached_property
    def replayed(self) -> tuple[Fact, ...]:
        """The facts that a mixture may replay."""
        return tuple(fact for fact in self.facts if fact.slice == REPLAYED)

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """Every entity once."""
        return tuple(dict.fromkeys(fact.entity for fact in self.facts))

    @cached_property
    def values(self) -> tuple[str, ...]:
        """Every value once."""
        return tuple(dict.fromkeys(value for fact in self.facts for value in fact.options))

    @cached_property
    def by_subject(self) -> dict[str, tuple[Fact, ...]]:
        """The facts of each subject."""
        return {name: tuple(fact for fact in self.facts if fact.subject == name) for name in SUBJECTS}


def make_world(seed: int) -> World:
    """Draw names, values and slices; the same seed gives the same world."""
    rng = random.Random(f"{seed}/world")
    names = _draw_names(rng)
    drawn = [fact for subject in SUBJECTS for fact in _draw_subject(rng, subject, names)]
    return World(tuple(drawn))


def _draw_names(rng: random.Random) -> Iterator[str]:
    """Give invented names; no two share their first syllable."""
    stems = [onset + middle for onset in _ONSETS for middle in _MIDDLES]
    rng.shuffle(stems)
    for index, stem in enumerate(stems):
        yield stem + _ENDINGS[index % len(_ENDINGS)]


def _draw_subject(rng: random.Random, subject: str, names: Iterator[str]) -> Iterator[Fact]:
    kind, attributes = SUBJECTS[subject]["kind"], SUBJECTS[subject]["attributes"]
    entities = [next(names) for _ in range(ENTITIES_PER_SUBJECT)]
    for attribute, options in attributes.items():
        values = [value for value in options for _ in range(ENTITIES_PER_SUBJECT // len(options))]
        slices: list[Slice] = [REPLAYED, NOT_REPLAYED] * (ENTITIES_PER_SUBJECT // 2)
        rng.shuffle(values)
        rng.shuffle(slices)
        for entity, value, part in zip(entities, values, slices, strict=True):
            yield Fact(subject, kind, entity, attribute, tuple(options), value, part)
