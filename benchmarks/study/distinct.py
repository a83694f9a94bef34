"""Keeps texts distinct: none is written twice, and none in training is nearly a text of the test."""

from __future__ import annotations

import re
import zlib
from collections import Counter

NEAR_JACCARD = 0.8
_BITS = 28  # 32 MiB
_WORD = re.compile(r"\w+")
Shingle = tuple[str, ...]


def split_words(text: str) -> list[str]:
    """Return the words of a text: case, punctuation, emoji and spaces do not make a difference."""
    return _WORD.findall(text.casefold())


def list_shingles(words: list[str]) -> set[Shingle]:
    """Return the different word 3-grams; a text of fewer words is one shingle."""
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}


class SeenTexts:
    """Remembers in a fixed amount of memory which texts were written.

    One bit per hash: a text that was written is always recognised. A new one is taken for an old one with the probability
    that its bit is set (0.5 % after 1.4 million texts); its writer then draws another text, which does no harm.
    """

    def __init__(self) -> None:
        self._table = bytearray(1 << (_BITS - 3))

    def add(self, words: list[str]) -> bool:
        """Remember the words of a text; return whether they were new."""
        number = zlib.crc32(" ".join(words).encode()) >> (32 - _BITS)
        place, bit = number >> 3, 1 << (number & 7)
        if self._table[place] & bit:
            return False
        self._table[place] |= bit
        return True


class NearTexts:
    """Finds out whether a text is nearly one of a few (a test set): word-3-gram Jaccard of 0.8 or more."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._holders: dict[Shingle, list[int]] = {}

    def add(self, words: list[str]) -> None:
        """Remember the words of a text."""
        shingles = list_shingles(words)
        for shingle in shingles:
            self._holders.setdefault(shingle, []).append(len(self._sizes))
        self._sizes.append(len(shingles))

    def is_near(self, words: list[str]) -> bool:
        """Tell whether a remembered text is near."""
        shingles = list_shingles(words)
        known = [shingle for shingle in shingles if shingle in self._holders]
        if len(known) < NEAR_JACCARD * len(shingles):
            return False
        shared = Counter(holder for shingle in known for holder in self._holders[shingle])
        return any(
            count >= NEAR_JACCARD * (len(shingles) + self._sizes[holder] - count) for holder, count in shared.items()
        )
