"""Arrow arrays made by their buffers: equal to those that pyarrow makes, without the libraries that it brings."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corpus.parts import part_files as arrow_arrays
from corpus.parts.part_files import make_booleans, make_integers, make_lists, make_strings

LENGTHS = st.integers(0, 70)


@given(st.sampled_from([np.int32, np.int64]).flatmap(lambda kind: hnp.arrays(kind, LENGTHS)))
def test_integers(values: np.ndarray) -> None:
    for made, given_values in ((make_integers(values), values), (make_integers(values[::2]), values[::2])):
        made.validate(full=True)
        assert made.equals(pa.array(given_values))


@given(hnp.arrays(np.bool_, LENGTHS))
def test_booleans(values: np.ndarray) -> None:
    made = make_booleans(values)
    made.validate(full=True)
    assert made.equals(pa.array(values))


@given(st.lists(st.text(max_size=9), max_size=9))
def test_strings(texts: list[str]) -> None:
    made = make_strings(texts)
    made.validate(full=True)
    assert made.equals(pa.array(texts, pa.string()))


@given(st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=9))
def test_lists(lists: list[list[int]]) -> None:
    offsets = np.cumsum([0, *map(len, lists)], dtype=np.int32)
    values = np.array([value for row in lists for value in row], dtype=np.int32)
    made = make_lists(offsets, make_integers(values))
    made.validate(full=True)
    assert made.equals(pa.array(lists, pa.list_(pa.int32())))


def test_integers_share_memory_with_what_they_are_made_of() -> None:
    values = np.arange(5)
    made = make_integers(values)
    values[2] = 7
    assert made[2].as_py() == 7


def test_half_a_surrogate_pair_and_too_much_text_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnicodeEncodeError):
        make_strings(["\ud83d"])
    monkeypatch.setattr(arrow_arrays, "_MAX_OFFSET", 5)
    assert make_strings(["abc", "de"]).to_pylist() == ["abc", "de"]
    with pytest.raises(OverflowError, match="2 texts take 6 bytes"):
        make_strings(["abc", "def"])
