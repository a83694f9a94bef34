"""What all writers of general rows share: everyday words, and the shape of a chat."""

from __future__ import annotations

import random
from collections.abc import Sequence

from demo.study.words import read_lists

Turns = list[tuple[str, str]]  # what the user says, what the assistant answers


def list_words(name: str) -> tuple[str, ...]:
    """Return a list of everyday words."""
    return read_lists("everyday")["lists"][name]


def list_names() -> tuple[str, ...]:
    """Return first names."""
    return read_lists("shared")["slots"]["name"]


def list_cities() -> tuple[str, ...]:
    """Return cities."""
    return read_lists("shared")["slots"]["city"]


def choose(rng: random.Random, values: Sequence[str]) -> str:
    """Return one of some texts."""
    return values[int(rng.random() * len(values))]


def format_time(minutes: int) -> str:
    """Return minutes after midnight as `h:mm`."""
    return f"{minutes // 60 % 24}:{minutes % 60:02d}"


def join_words(words: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
