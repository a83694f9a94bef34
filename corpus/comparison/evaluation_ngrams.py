"""The n-grams of an evaluation set, as sorted hashes.

An item of at least `num_words` words has its n-grams. A shorter one is compared whole: it is found where a training text, or
one line of it (a turn of a chat, a paragraph), consists of the same words and no others. An n-gram that stands in more than
1 % of the items, and in at least 3, is boilerplate (the instruction line of a benchmark) and no evidence; it is left out and
counted.

Source: Brown et al., Language Models are Few-Shot Learners (2020), appendix C: 13-grams without punctuation and case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from corpus.comparison.ngrams import WordHasher, hash_ngrams, hash_whole_texts, hash_words, normalise_text, split_words

_BOILERPLATE_RATIO = 0.01
_BOILERPLATE_ITEMS = 3
_MIN_FILTER_BITS = 12
_MAX_FILTER_BITS = 26


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """What a model is judged by.

    Attributes:
        name: How reports call it.
        texts: Everything of each item that a model sees: the comment, or the question with its choices.
    """

    name: str
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class EvaluationNgrams:
    """The hashes of one evaluation set; G pairs of hash and item, sorted.

    Attributes:
        name: The set.
        num_items: Items of the set.
        num_words: Words of an n-gram.
        hashes: Hashes of n-grams (G).
        items: The item of each (G).
        whole_hashes: Hashes of the items that are shorter than an n-gram.
        whole_items: The item of each.
        num_excluded: Distinct n-grams that were left out as boilerplate.
        num_unchecked: Items that nothing is left of: no words, or boilerplate only.
    """

    name: str
    num_items: int
    num_words: int
    hashes: np.ndarray
    items: np.ndarray
    whole_hashes: np.ndarray
    whole_items: np.ndarray
    num_excluded: int
    num_unchecked: int


def list_ngrams(evaluation: EvaluationSet, num_words: int) -> EvaluationNgrams:
    """Hash the n-grams of an evaluation set."""
    words = hash_words([split_words(normalise_text(text)) for text in evaluation.texts], WordHasher())
    grams, offsets = hash_ngrams(words, num_words)
    items = np.repeat(np.arange(len(evaluation.texts)), np.diff(offsets))
    hashes, items = _sort_pairs(grams, items)
    _, place, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    is_boilerplate = (counts > _BOILERPLATE_RATIO * len(evaluation.texts)) & (counts >= _BOILERPLATE_ITEMS)
    is_kept = ~is_boilerplate[place]
    is_short = (words.lengths > 0) & (words.lengths < num_words)
    whole_hashes, whole_items = _sort_pairs(hash_whole_texts(words)[is_short], np.flatnonzero(is_short))
    checked = np.union1d(items[is_kept], whole_items)
    return EvaluationNgrams(
        name=evaluation.name,
        num_items=len(evaluation.texts),
        num_words=num_words,
        hashes=hashes[is_kept],
        items=items[is_kept],
        whole_hashes=whole_hashes,
        whole_items=whole_items,
        num_excluded=int(is_boilerplate.sum()),
        num_unchecked=len(evaluation.texts) - len(checked),
    )


def _sort_pairs(hashes: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort the distinct pairs by hash, then item."""
    order = np.lexsort((items, hashes))
    hashes, items = hashes[order], items[order]
    is_new = np.ones(len(hashes), dtype=bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (items[1:] != items[:-1])
    return hashes[is_new], items[is_new]


class HashSet:
    """Fast membership in a sorted array: a table of flags tells for most hashes that they are not in.

    Args:
        hashes: Sorted, distinct or not.
    """

    def __init__(self, hashes: np.ndarray) -> None:
        self._hashes = hashes
        bits = min(max(_MIN_FILTER_BITS, (16 * len(hashes)).bit_length()), _MAX_FILTER_BITS)
        self._shift = np.uint64(64 - bits)
        self._flags = np.zeros(1 << bits, dtype=bool)
        self._flags[self._hashes >> self._shift] = True

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Return the places in `hashes` that are in the set."""
        maybe = np.flatnonzero(self._flags[hashes >> self._shift])
        if not len(maybe):
            return maybe
        places = np.searchsorted(self._hashes, hashes[maybe])
        return maybe[self._hashes[np.minimum(places, len(self._hashes) - 1)] == hashes[maybe]]
