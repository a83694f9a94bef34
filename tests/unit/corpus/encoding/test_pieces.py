from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.encoding.base_model import load_tokenizer
from corpus.encoding.pieces import PieceTokenizer

WALLS = st.sampled_from(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
TEXTS = st.lists(st.one_of(WALLS, st.text(max_size=12), st.just("user\n"), st.just(" "))).map("".join)


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path):
    return load_tokenizer(tiny_base)


def test_cut_texts_have_the_tokens_of_whole_texts(tokenizer) -> None:
    pieces = PieceTokenizer(tokenizer, recurring=["a recurring part that is long enough"])

    @given(st.lists(TEXTS, max_size=5))
    def check(texts: list[str]) -> None:
        expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        assert pieces.tokenize(texts) == expected
        assert pieces.tokenize(texts) == expected  # from the cache

    assert pieces.cuts_at_special_tokens
    check()


def test_a_tokenizer_that_sees_across_its_special_tokens_gets_whole_texts(tokenizer) -> None:
    import copy

    from tokenizers import AddedToken

    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"additional_special_tokens": [AddedToken("<|eats|>", lstrip=True, special=True)]})
    pieces = PieceTokenizer(other)
    assert not pieces.cuts_at_special_tokens
    text = "a  <|eats|>b"
    assert pieces.tokenize([text]) == [other(text, add_special_tokens=False)["input_ids"]]
