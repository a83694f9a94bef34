from __future__ import annotations

from typing import Any

import pytest
import torch
from torchao.optim.subclass_8bit import OptimState8bit

from training.engine.optim import pack_moments, unpack_moments

BLOCK = 256
STEP = torch.tensor(3.0)


def make_state(rows: int, columns: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Moments of several orders of magnitude; the first is signed, so many a block's largest number is negative."""
    torch.manual_seed(seed)
    numbers = torch.randn(rows, columns) * torch.logspace(-6, 2, rows)[:, None]
    moments = {}
    for name, signed in (("exp_avg", True), ("exp_avg_sq", False)):
        moments[name] = OptimState8bit.zeros((rows, columns), signed=signed)
        moments[name].copy_(numbers if signed else numbers.square())
    return {"weight": {"step": STEP, **moments}}


def take_rows(unpacked: dict[str, dict[str, Any]], start: int, end: int) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value[start:end] if value.ndim else value for key, value in values.items()}
        for name, values in unpacked.items()
    }


@pytest.mark.parametrize("columns", [512, 256, 96, 33])
def test_codes_and_scales_come_back_bit_for_bit(columns: int) -> None:
    state, own = make_state(256, columns), make_state(256, columns, seed=1)
    unpacked = unpack_moments(state, BLOCK)
    assert {type(value) for value in unpacked["weight"].values()} == {torch.Tensor}
    packed = pack_moments(own, unpacked, BLOCK)
    assert packed["weight"].keys() == state["weight"].keys()
    for moment in ("exp_avg", "exp_avg_sq"):
        assert torch.equal(packed["weight"][moment].codes, state["weight"][moment].codes)
        assert torch.equal(packed["weight"][moment].scale, state["weight"][moment].scale)


def test_a_shard_that_ends_between_blocks_keeps_the_blocks_it_has() -> None:
    state = make_state(96, 128)
    packed = pack_moments(make_state(48, 128, seed=1), take_rows(unpack_moments(state, BLOCK), 48, 96), BLOCK)
    whole, shard = state["weight"]["exp_avg"], packed["weight"]["exp_avg"]
    assert torch.equal(shard.codes, whole.codes[48:])
    assert torch.equal(shard.scale, whole.scale[24:])


def test_a_shard_that_ends_within_a_block_has_blocks_of_its_own_close_to_those() -> None:
    unpacked = take_rows(unpack_moments(make_state(96, 128), BLOCK), 47, 95)
    shard = pack_moments(make_state(48, 128, seed=1), unpacked, BLOCK)["weight"]["exp_avg"]
    numbers = unpacked["weight"]["exp_avg"]
    largest = numbers.view(-1, BLOCK).abs().amax(dim=1).repeat_interleave(BLOCK).view_as(numbers)
    assert ((shard.dequantize() - numbers).abs() <= 0.02 * largest).all()


def test_a_shard_too_small_for_blocks_is_float32_on_one_side_and_may_be_blocks_on_the_other() -> None:
    unpacked = take_rows(unpack_moments(make_state(96, 128), BLOCK), 0, 10)
    small = {"weight": {"step": STEP, "exp_avg": torch.zeros(10, 128), "exp_avg_sq": torch.zeros(10, 128)}}
    packed = pack_moments(small, unpacked, BLOCK)
    assert torch.equal(packed["weight"]["exp_avg"], unpacked["weight"]["exp_avg"])
    again = unpack_moments(packed, BLOCK)
    assert again["weight"]["exp_avg_scale"].eq(0).all()
    blocks = pack_moments({"weight": make_state(10, 128, seed=1)["weight"]}, again, BLOCK)["weight"]["exp_avg"]
    assert torch.equal(blocks.codes, make_state(96, 128)["weight"]["exp_avg"].codes[:10])
