from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.comparison.ngrams import (
    _WORD,
    WordHasher,
    hash_ngrams,
    hash_whole_texts,
    hash_words,
    normalise_text,
    split_words,
)

WORDS = st.lists(st.sampled_from([b"a", b"b", b"c", b"dd"]), max_size=9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The\tCamera \n works ", "the camera works"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ﬁne \u00a0 day", "fine day"),
        ("Great!!! 😀", "great!!! 😀"),
        ("", ""),
    ],
)
def test_case_form_and_white_space_are_folded_and_the_rest_stays(text: str, expected: str) -> None:
    assert normalise_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it's great, isn't it?", ["it", "s", "great", "isn", "t", "it"]),
        ("snake_case ütf", ["snake", "case", "ütf"]),
        ("電池が", ["電", "池", "が"]),
        ("app崩溃了 ok", ["app", "崩", "溃", "了", "ok"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("!!! 😀", []),
        ("", []),
    ],
)
def test_words_are_without_punctuation_and_unspaced_scripts_give_characters(text: str, expected: list[str]) -> None:
    assert [word.decode() for word in split_words(text)] == expected


@given(st.text(alphabet="aZ09_ '.,-\x00\x1f\x85éßя²ªºͅー…“😀電ि\u00a0\u200d"), st.sampled_from(["“", "電"]))
def test_a_text_is_cut_alike_whether_or_not_it_needs_the_slow_pattern(text: str, special: str) -> None:
    normalised = normalise_text(text)
    assert split_words(f"{normalised} {special}")[: len(split_words(normalised))] == split_words(normalised)
    assert split_words(normalised) == [word.encode() for word in _WORD.findall(normalised)]


@given(st.lists(WORDS, max_size=5), st.integers(1, 5))
def test_ngrams_have_equal_hashes_exactly_if_their_words_are_equal(texts: list[list[bytes]], num_words: int) -> None:
    hashes, offsets = hash_ngrams(hash_words(texts, WordHasher()), num_words)
    naive = [tuple(t[i : i + num_words]) for t in texts for i in range(len(t) - num_words + 1)]
    assert np.diff(offsets).tolist() == [max(len(t) - num_words + 1, 0) for t in texts]
    assert len(hashes) == len(naive)
    by_hash = dict(zip(hashes.tolist(), naive, strict=True))
    by_words = dict(zip(naive, hashes.tolist(), strict=True))
    assert len(by_hash) == len(by_words) == len(set(naive))


def test_a_whole_text_has_the_hash_of_the_ngram_of_its_length() -> None:
    texts = [[b"a", b"b", b"c"], [], [b"z", b"a", b"b", b"c"]]
    words = hash_words(texts, WordHasher())
    grams, _ = hash_ngrams(words, 3)
    whole = hash_whole_texts(words)
    assert whole[0] == grams[0] == grams[2]
    assert whole[1] == 0


def test_hashes_are_the_same_in_every_process() -> None:
    words = hash_words([split_words("the battery is empty again")], WordHasher())
    assert hash_ngrams(words, 5)[0].tolist() == [HASH]


HASH = 704638319493322993
