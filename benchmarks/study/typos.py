"""Slips of the finger: what a person on a phone does to a sentence."""

from __future__ import annotations

import random
import re

_WORD = re.compile(r"(?<![\w@.+-])[^\W\d_]{4,}(?![\w@])")
_NEIGHBOURS = dict(
    zip("qwertyuiopasdfghjklzxcvbnm", "wertyuioiosdfghjkkzxcvbnbn", strict=True)  # the key to the right, roughly
)


def add_typos(text: str, count: int, rng: random.Random) -> str:
    """Damage up to `count` words of four letters or more; numbers and addresses stay as they are."""
    for _ in range(count):
        words = list(_WORD.finditer(text))
        if not words:
            return text
        word = words[int(rng.random() * len(words))]
        text = f"{text[: word.start()]}{_slip(word.group(), rng)}{text[word.end() :]}"
    return text


def _slip(word: str, rng: random.Random) -> str:
    """Swap, drop, double or mistype one letter after the first."""
    at = 1 + int(rng.random() * (len(word) - 2))
    kind = rng.random()
    if kind < 0.35 and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind < 0.6:
        return word[:at] + word[at + 1 :]
    if kind < 0.8:
        return word[: at + 1] + word[at:]
    return word[:at] + _NEIGHBOURS.get(word[at], "e") + word[at + 1 :]
