from __future__ import annotations

import random

import pytest

from training.data import balance, plan_packed_step, plan_step


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


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_rows_that_were_packed_before_are_dealt_to_the_ranks_whole(world_size: int) -> None:
    packed_rows = [2, 0, 1, 0, 4, 2, 3]
    plan = plan_packed_step(packed_rows, world_size, 128, 2)
    rows = [row for passes in plan.passes for part in passes for row in part if row]
    assert sorted(rows) == [(0, 5), (1, 3), (2,), (4,), (6,)]
    assert plan.row_len == 128
    assert len({len(passes) for passes in plan.passes}) == 1
    assert all(len(part) <= 2 for passes in plan.passes for part in passes)
