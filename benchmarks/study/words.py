"""Reads the word lists of this package: CSV tables, and text files of `[section]`s with `name = a | b | c` lines.

A phrase may hold slots in braces (`{n}`, `{city}`); an empty alternative means that nothing is said.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WORDS = Path(__file__).parent / "words"
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "pl")
Turns = list[tuple[str, str]]  # what the user says, what the assistant answers
Lists = dict[str, dict[str, tuple[str, ...]]]
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A piece of text with slots.

    Attributes:
        pattern: The text with `%s` where a slot is.
        slots: The names of the slots, in order.
    """

    pattern: str
    slots: tuple[str, ...]


def parse_phrase(text: str) -> Phrase:
    """Turn `{name}` slots into a pattern for the `%` operator, which is several times faster than `str.format`."""
    return Phrase(_SLOT.sub("%s", text.replace("%", "%%")), tuple(_SLOT.findall(text)))


@cache
def read_lists(name: str) -> Lists:
    """Read `words/<name>.txt` as section -> line name -> alternatives."""
    lists: Lists = {}
    section: dict[str, tuple[str, ...]] = {}
    for line in (WORDS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = lists.setdefault(line.strip("[]"), {})
        elif line.strip():
            key, _, alternatives = line.partition(" = ")
            section[key] = tuple(part.strip() for part in alternatives.split("|"))
    return lists


@cache
def read_table(name: str) -> list[dict[str, str]]:
    """Read `words/<name>.csv` as one dictionary per row."""
    with (WORDS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def list_words(name: str) -> tuple[str, ...]:
    """Return a list of everyday words; `name` and `city` are those that all languages share."""
    shared = read_lists("shared")["slots"]
    return shared[name] if name in shared else read_lists("everyday")["lists"][name]


def choose(rng: random.Random, values: Sequence[str]) -> str:
    """Return one of some texts."""
    return values[int(rng.random() * len(values))]


def join_words(words: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
