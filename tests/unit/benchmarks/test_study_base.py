import base64

import pytest

from benchmarks.study_base import read_ranks, split_token

RANKS = {b"a": 0, b"b": 1, b"c": 2, b"ab": 3, b"bc": 4, b"abc": 5, b"abcabc": 6}


def test_a_token_splits_where_the_lower_ranks_merge_first():
    assert split_token(b"abc", RANKS) == (b"ab", b"c")  # not a + bc: ab has the lower rank


def test_a_long_token_splits_into_its_last_two_pieces():
    assert split_token(b"abcabc", RANKS) == (b"abc", b"abc")


def test_a_token_that_no_merge_makes_is_an_error():
    with pytest.raises(ValueError, match="not a BPE's"):
        split_token(b"cab", {**RANKS, b"cab": 2})


def test_a_file_with_too_few_ranks_is_an_error(tmp_path):
    path = tmp_path / "few.tiktoken"
    path.write_bytes(base64.b64encode(b"a") + b" 0\n")
    with pytest.raises(ValueError, match="holds 1 ranks"):
        read_ranks(path)
