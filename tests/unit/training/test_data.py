from __future__ import annotations

import random
from pathlib import Path

import pytest

from corpus.encode import IGNORE_INDEX, EncodedSample
from training.data import balance, collect_samples, load_encoded, plan_step, save_encoded, slice_step

I = IGNORE_INDEX  # noqa: E741
SAMPLES = [EncodedSample((1, 2, 3), (I, 2, 3)), EncodedSample((4, 5), (4, 5)), EncodedSample((6, 7), (I, 7))]


def test_saved_samples_come_back(tmp_path: Path) -> None:
    save_encoded(collect_samples(SAMPLES), tmp_path / "x.npz")
    source = load_encoded((tmp_path / "x.npz").read_bytes())
    assert [tuple(source[row].input_ids) for row in range(len(source))] == [s.input_ids for s in SAMPLES]
    assert [tuple(source[row].labels) for row in range(len(source))] == [s.labels for s in SAMPLES]
    assert source.lengths.tolist() == [3, 2, 2]


def test_a_first_token_is_never_counted_as_learned() -> None:
    source = collect_samples(SAMPLES)
    assert source.num_targets.tolist() == [2, 1, 1]
    assert source.num_targets.tolist() == [source[row].num_targets for row in range(3)]


def test_steps_are_slices_of_the_order() -> None:
    order = [(0, row) for row in range(10)]
    assert [sample for step in range(5) for sample in slice_step(order, step, 2)] == order


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("is_dense", [True, False])
def test_every_sample_is_computed_once_whatever_the_number_of_ranks(world_size: int, is_dense: bool) -> None:
    lengths = [random.Random(7).randint(5, 128) for _ in range(16)] + [3, 128]
    plan = plan_step(lengths, world_size, 128, 1, is_dense_attention=is_dense)
    seen = [i for passes in plan.passes for rows in passes for row in rows for i in row]
    assert sorted(seen) == list(range(len(lengths)))
    assert len(plan.passes) == world_size
    assert len({len(passes) for passes in plan.passes}) == 1
    assert all(
        sum(lengths[i] for i in row) <= plan.row_len for passes in plan.passes for rows in passes for row in rows
    )


@pytest.mark.parametrize(("micro_batch_size", "rows"), [(1, [3] * 6 + [2]), (2, [6, 6, 6, 2])])
def test_a_forward_pass_holds_a_bounded_number_of_tokens(micro_batch_size: int, rows: list[int]) -> None:
    plan = plan_step([30] * 20, 1, 100, micro_batch_size, is_dense_attention=True)
    assert plan.row_len == 32
    assert [len(part) for part in plan.passes[0]] == rows


def test_ranks_get_about_equal_work_and_none_is_idle() -> None:
    parts = balance([100, 1, 1, 1, 50, 50], 2)
    assert sorted(sum([100, 1, 1, 1, 50, 50][i] for i in part) for part in parts) == [101, 102]
    assert all(balance([5, 5, 5], 3))
