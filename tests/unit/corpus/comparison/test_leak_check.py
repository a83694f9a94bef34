from __future__ import annotations

import pytest

from corpus.comparison.row_matches import measure_jaccard


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [
        ("a b c d", "a b c d", 1.0),
        ("A  b c, d!", "a b c d", 1.0),
        ("a b c d", "a b c e", 1 / 3),
        ("a b", "a b", 1.0),
        ("a b", "a c", 0.0),
        ("", "a", 0.0),
    ],
)
def test_the_share_of_common_word_grams(first: str, second: str, share: float) -> None:
    assert measure_jaccard(first, second) == pytest.approx(share)
