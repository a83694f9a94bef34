from __future__ import annotations

import numpy as np
import pytest

from corpus.encode import IGNORE_INDEX
from training.packing import Document, build_batch, choose_row_len, pack_first_fit_decreasing


def make_document(length: int, first: int = 10, learned_from: int = 1) -> Document:
    ids = np.arange(first, first + length, dtype=np.int32)
    labels = np.where(np.arange(length) >= learned_from, ids, IGNORE_INDEX)
    return Document(ids, labels)


def test_rows_hold_every_sample_once_and_never_overflow() -> None:
    lengths = [70, 30, 50, 50, 20, 10, 100, 1]
    rows = pack_first_fit_decreasing(lengths, 100)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 100 for row in rows)
    assert len(rows) == 4


def test_a_sample_longer_than_a_row_is_an_error() -> None:
    with pytest.raises(ValueError, match="sample 1 has 101 tokens, a row has 100"):
        pack_first_fit_decreasing([5, 101], 100)


def test_rows_are_as_short_as_the_longest_sample_where_attention_is_dense() -> None:
    assert choose_row_len([33, 60], 512, is_dense_attention=True) == 64
    assert choose_row_len([33, 500], 508, is_dense_attention=True) == 508
    assert choose_row_len([33, 60], 512, is_dense_attention=False) == 512


def test_positions_restart_at_each_document_and_go_on_through_the_padding() -> None:
    batch = build_batch([[make_document(3), make_document(2, 20)]], 7, pad_id=0)
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3]]


def test_targets_are_the_next_tokens_and_never_cross_a_document() -> None:
    batch = build_batch([[make_document(3), make_document(2, 20, learned_from=0)]], 6, pad_id=0)
    i = IGNORE_INDEX
    assert batch.targets.tolist() == [[11, 12, i, 21, i, i]]
    assert batch.columns.tolist() == [0, 1, 3]


def test_a_document_teaches_as_many_tokens_as_it_has_targets() -> None:
    document = make_document(5, learned_from=0)
    batch = build_batch([[document]], 8, pad_id=0)
    assert document.num_targets == int((batch.targets != IGNORE_INDEX).sum()) == 4


def test_an_empty_row_teaches_nothing_but_still_has_a_column() -> None:
    batch = build_batch([[]], 4, pad_id=0)
    assert set(batch.targets.flatten().tolist()) == {IGNORE_INDEX}
    assert batch.columns.tolist() == [0]
