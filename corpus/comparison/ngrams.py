"""Texts as the comparisons see them: normalised, cut into words, and hashed as n-grams of any length at once.

Hashes are the same on every machine and in every process (`hash()` is not). A word is hashed with BLAKE2b; a span of words
is the polynomial of its word hashes modulo 2**64. The base is odd, so it has an inverse and every span is the difference of two
prefix sums: the price does not depend on the length of the span. Shapes: W words of a batch, R rows, S spans.

Source: Karp and Rabin, Efficient randomized pattern-matching algorithms (1987).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import chain

import numpy as np

_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
_CACHED_WORDS = 1 << 20
# Scripts that put no spaces between words: each of their characters counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Vowel signs and accents that are not letters by themselves; without them the words of India would fall to pieces.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u065f\u0670\u0900-\u0dff"
_WORD = re.compile(rf"[{_UNSPACED}]|(?:[^\W_{_UNSPACED}]|[{_MARKS}])+")
# What only the pattern above can cut; a text without it is cut at ASCII punctuation, many times as fast.
_NEEDS_PATTERN = re.compile(rf"[^\w\x00-\x7f]|[{_UNSPACED}]")
_CUT_ASCII = bytes(c if c >= 128 or chr(c).isalnum() else 32 for c in range(256))


def normalise_text(text: str) -> str:
    """Fold what does not change the wording: compatibility forms (NFKC), case, and the kind and amount of white space.

    Punctuation and emoji stay.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def split_words(normalised: str) -> list[bytes]:
    """Cut a normalised text into words without punctuation, as UTF-8; a script without spaces gives one per character."""
    if normalised.isascii() or not _NEEDS_PATTERN.search(normalised):
        return normalised.encode().translate(_CUT_ASCII).split()
    return [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(normalised)]


class WordHasher(dict[bytes, int]):
    """64-bit hashes of words; each is computed when it is first needed."""

    def __missing__(self, word: bytes) -> int:
        if len(self) >= _CACHED_WORDS:
            self.clear()
        self[word] = value = hash64(word)
        return value


def hash64(data: bytes) -> int:
    """Return a 64-bit hash (BLAKE2b)."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def hash128(data: bytes) -> bytes:
    """Return a 128-bit hash (BLAKE2b): no two texts of a corpus have the same one, by chance or on purpose."""
    return blake2b(data, digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class HashedWords:
    """The words of some texts, one text after the other.

    Attributes:
        hashes_W: Word hashes.
        offsets_R: Where each text begins, and the end of the last one: one more than there are texts.
    """

    hashes_W: np.ndarray  # noqa: N815 - a shape suffix
    offsets_R: np.ndarray  # noqa: N815 - a shape suffix

    @property
    def lengths(self) -> np.ndarray:
        """Number of words per text."""
        return np.diff(self.offsets_R)


def hash_words(texts: Iterable[Sequence[bytes]], hasher: WordHasher) -> HashedWords:
    """Hash the words of each text."""
    rows = list(texts)
    hashes = np.fromiter(map(hasher.__getitem__, chain.from_iterable(rows)), dtype=np.uint64)
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return HashedWords(hashes, np.concatenate([[0], np.cumsum(lengths)]))


def hash_ngrams(words: HashedWords, num_words: int) -> tuple[np.ndarray, np.ndarray]:
    """Hash every n-gram that lies inside one text.

    Returns:
        The hashes (S, in the order of the texts) and the offsets (R + 1) of each text in them. A text with fewer than
        `num_words` words has none.
    """
    positions = np.arange(len(words.hashes_W))
    ends = np.repeat(words.offsets_R[1:], words.lengths)
    starts = positions[positions + num_words <= ends]
    counts = np.maximum(words.lengths - num_words + 1, 0)
    return hash_spans(words, starts, starts + num_words), np.concatenate([[0], np.cumsum(counts)])


def hash_whole_texts(words: HashedWords) -> np.ndarray:
    """Hash each text as the one n-gram that it is; a text without words has the hash 0."""
    hashes = hash_spans(words, words.offsets_R[:-1], words.offsets_R[1:])
    return np.where(words.lengths > 0, hashes, np.uint64(0))


def hash_spans(words: HashedWords, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Hash the words from each start to its end (exclusive); equal words have equal hashes wherever they stand."""
    num_words = len(words.hashes_W)
    powers, inverse_powers = _list_powers(_round_up(num_words + 1))
    prefix = np.zeros(num_words + 1, dtype=np.uint64)
    np.cumsum(words.hashes_W * inverse_powers[:num_words], out=prefix[1:])
    return _mix((prefix[ends] - prefix[starts]) * powers[ends])


def _mix(values: np.ndarray) -> np.ndarray:
    """Spread the bits (the finaliser of SplitMix64), because MinHash and the tables look at some of them only."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_up(number: int) -> int:
    return 1 << max(number - 1, 1).bit_length()


@lru_cache(maxsize=2)
def _list_powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first powers of the base and of its inverse, from the power 0."""

    def list_of(base: int) -> np.ndarray:
        powers = np.full(count, base, dtype=np.uint64)
        powers[0] = 1
        return np.cumprod(powers, dtype=np.uint64)

    return list_of(_BASE), list_of(_INVERSE)
