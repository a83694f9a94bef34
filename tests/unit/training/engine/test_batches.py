from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import corpus.encoding.encode
from training.engine.batches import (
    IGNORE_INDEX,
    Document,
    balance,
    build_batch,
    pack_first_fit_decreasing,
    plan_packed_passes,
    plan_passes,
)


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


def test_positions_restart_at_each_document_and_padding_is_one_of_its_own() -> None:
    batch = build_batch([make_document(3), make_document(2, 20)], pad_id=0, padded_length=7)
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch.boundaries.tolist() == [0, 3, 5, 7]
    assert batch.boundaries.dtype == torch.int32
    assert batch.longest == 3


def test_nothing_is_padded_unless_the_shape_must_stay() -> None:
    batch = build_batch([make_document(3), make_document(2, 20)], pad_id=0)
    assert batch.input_ids.shape == (1, 5)
    assert batch.boundaries.tolist() == [0, 3, 5]


def test_targets_are_the_next_tokens_and_never_cross_a_document() -> None:
    batch = build_batch([make_document(3), make_document(2, 20, learned_from=0)], pad_id=0, padded_length=6)
    assert batch.places.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [11, 12, 21]


def test_a_document_teaches_as_many_tokens_as_it_has_targets() -> None:
    document = make_document(5, learned_from=0)
    assert document.num_targets == len(build_batch([document], pad_id=0).targets) == 4


def test_a_pass_without_documents_teaches_nothing_but_still_has_a_place() -> None:
    batch = build_batch([], pad_id=0)
    assert batch.input_ids.shape == (1, 1)
    assert batch.targets.tolist() == [IGNORE_INDEX]


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_sample_is_computed_once_whatever_the_number_of_ranks(world_size: int) -> None:
    lengths = [random.Random(7).randint(5, 128) for _ in range(16)] + [3, 128]
    plan = plan_passes(lengths, world_size, 128)
    seen = [sample for passes in plan for part in passes for sample in part]
    assert sorted(seen) == list(range(len(lengths)))
    assert len(plan) == world_size
    assert len({len(passes) for passes in plan}) == 1
    assert all(sum(lengths[i] for i in part) <= 128 for passes in plan for part in passes)


@pytest.mark.parametrize(("pass_tokens", "samples"), [(100, [3] * 6 + [2]), (200, [6, 6, 6, 2])])
def test_a_forward_pass_holds_a_bounded_number_of_tokens(pass_tokens: int, samples: list[int]) -> None:
    assert [len(part) for part in plan_passes([30] * 20, 1, pass_tokens)[0]] == samples


def test_ranks_get_about_equal_work_and_none_is_idle() -> None:
    parts = balance([100, 1, 1, 1, 50, 50], 2)
    assert sorted(sum([100, 1, 1, 1, 50, 50][i] for i in part) for part in parts) == [101, 102]
    assert all(balance([5, 5, 5], 3))


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_rows_that_were_packed_before_are_dealt_to_the_ranks_whole(world_size: int) -> None:
    packed_rows = [2, 0, 1, 0, 4, 2, 3]
    plan = plan_packed_passes(packed_rows, world_size, 2)
    parts = [set(part) for passes in plan for part in passes]
    assert sorted(sample for part in parts for sample in part) == list(range(7))
    assert all(({0, 5} <= part or not {0, 5} & part) and ({1, 3} <= part or not {1, 3} & part) for part in parts)
    assert len({len(passes) for passes in plan}) == 1
    assert all(len({packed_rows[i] for i in part}) <= 2 for part in parts)


def test_what_is_not_learned_is_marked_as_the_corpus_marks_it() -> None:
    assert IGNORE_INDEX == corpus.encoding.encode.IGNORE_INDEX
