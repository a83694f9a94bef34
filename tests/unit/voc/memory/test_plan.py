from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from voc.config.file import read_preset
from voc.memory.advice import advise, describe_plan, find_least_gpus, plan_to_json
from voc.memory.parts import count_optimizer, measure_precision
from voc.memory.plan import GIB, TrainingSetup, plan_memory
from voc.models.shapes import read_shapes

SHAPES = read_shapes(read_preset("qwen3-8b").architecture, "qwen3-8b")
EXPERTS = read_shapes(read_preset("qwen3-30b-a3b").architecture, "qwen3-30b-a3b")
SETUP = TrainingSetup(
    device="cuda",
    num_workers=8,
    accumulates=True,
    micro_batch_size=1,
    max_seq_len=4096,
    param_dtype="bfloat16",
    master_dtype="float32",
    activation_checkpointing="full",
    gradient_sync="last_pass",
    loss_kernel="chunked",
    loss_chunk_tokens=512,
    optimizer="adamw",
)


def peak_gib(**changes: Any) -> float:
    return plan_memory(SHAPES, replace(SETUP, **changes)).peak.total / GIB


@pytest.mark.parametrize(
    ("cheaper", "dearer"),
    [
        ({"activation_checkpointing": "full"}, {"activation_checkpointing": "selective"}),
        ({"activation_checkpointing": "selective"}, {"activation_checkpointing": "none"}),
        ({"gradient_sync": "every_pass"}, {"gradient_sync": "last_pass"}),
        ({"optimizer": "adamw_8bit"}, {"optimizer": "adamw"}),
        ({"master_dtype": "bfloat16"}, {"master_dtype": "float32"}),
        ({"loss_kernel": "chunked"}, {"loss_kernel": "plain"}),
        ({"num_workers": 16}, {"num_workers": 8}),
        ({"max_seq_len": 2048}, {"max_seq_len": 8192}),
        ({"micro_batch_size": 1}, {"micro_batch_size": 4}),
        ({"accumulates": False}, {"accumulates": True}),
    ],
)
def test_each_setting_moves_the_peak_in_the_direction_that_it_is_there_for(
    cheaper: dict[str, Any], dearer: dict[str, Any]
) -> None:
    assert peak_gib(**cheaper) < peak_gib(**dearer)


def test_what_stays_is_sixteen_bytes_per_parameter_with_fp32_adamw_and_is_shared_by_all_ranks() -> None:
    plan = plan_memory(SHAPES, replace(SETUP, gradient_sync="every_pass"))
    update = plan.moments[-1].items
    state = update["weights"] + update["gradients"] + update["optimizer"]
    assert state == pytest.approx(16 * SHAPES.num_parameters / 8, rel=1e-3)
    assert str(plan.bytes_per_parameter) == "16 bytes per parameter: weights 4, gradients 4, optimizer 8"


def test_one_process_that_computes_in_its_master_dtype_gathers_and_reduces_nothing() -> None:
    plan = plan_memory(SHAPES, replace(SETUP, num_workers=1, param_dtype="float32"))
    assert all(moment.items["gathered weights"] == 0 for moment in plan.moments)


def test_unreduced_gradients_are_whole_on_every_rank_however_many_there_are() -> None:
    for ranks in (8, 64):
        moment = plan_memory(SHAPES, replace(SETUP, num_workers=ranks)).moments[0]
        assert moment.items["gradients"] == 4 * SHAPES.num_parameters


def test_small_tensors_and_odd_ones_keep_whole_moments_in_8_bits() -> None:
    assert count_optimizer([(64, 64)], [], name="adamw_8bit", size=4) == 2 * (4096 + 16 * 4 + 1024)
    assert count_optimizer([], [(63, 64)], name="adamw_8bit", size=4) == 2 * 63 * 64 * 4
    assert count_optimizer([], [(65, 65)], name="adamw_8bit", size=4) == 2 * 65 * 65 * 4


def test_muon_keeps_one_moment_of_matrices_and_two_of_the_rest() -> None:
    precision = measure_precision([(10, 30)], [(100,)], optimizer="muon", master_dtype="float32")
    assert precision.optimizer == pytest.approx((300 * 4 + 100 * 8) / 400)


def test_experts_that_are_shared_out_are_gathered_in_part() -> None:
    setup = replace(SETUP, num_workers=16, gradient_sync="every_pass")
    whole, shared = (plan_memory(EXPERTS, replace(setup, experts_parallel_size=size)).peak for size in (1, 8))
    assert shared.items["gathered weights"] < 0.5 * whole.items["gathered weights"]


def test_8b_does_not_fit_one_24_gib_gpu_and_the_advice_leads_to_what_fits() -> None:
    plan = plan_memory(SHAPES, replace(SETUP, num_workers=1))
    memory = 24 * GIB
    assert not plan.fits(memory)
    advice = advise(plan, memory, gpus_per_node=8)
    assert [s.setting for s in advice.suggestions] == [
        "training.optimizer.name",
        "training.master_dtype",
    ]
    totals = [plan.peak.total, *(s.plan.peak.total for s in advice.suggestions)]
    assert totals == sorted(totals, reverse=True)
    assert not advice.fits
    assert advice.gpus_unchanged is None  # 8.19 G whole float32 gradients alone are 30.5 GiB
    last = replace(advice.suggestions[-1].plan.setup, gradient_sync="every_pass")
    assert advice.gpus_changed is not None
    assert plan_memory(SHAPES, replace(last, num_workers=advice.gpus_changed)).fits(memory)
    assert not plan_memory(SHAPES, replace(last, num_workers=advice.gpus_changed - 1)).fits(memory)
    text = describe_plan(plan, memory, advice)
    assert "does not fit" in text
    assert "1. training.optimizer.name: adamw_8bit" in text
    assert f"{advice.gpus_changed} with all changes above" in text


def test_advice_ends_with_the_first_change_that_fits() -> None:
    plan = plan_memory(SHAPES, replace(SETUP, activation_checkpointing="none"))
    advice = advise(plan, 80 * GIB, gpus_per_node=8)
    assert [s.setting for s in advice.suggestions] == ["training.activation_checkpointing"]
    assert advice.fits
    assert advice.suggestions[0].plan.fits(80 * GIB)


def test_gpus_come_in_whole_nodes() -> None:
    number = find_least_gpus(EXPERTS, replace(SETUP, gradient_sync="every_pass"), 80 * GIB, gpus_per_node=8)
    assert number is not None
    assert number % 8 == 0


def test_the_json_says_what_the_table_says() -> None:
    plan = plan_memory(SHAPES, SETUP)
    value = plan_to_json(plan, 80 * GIB, None)
    assert value["fits"]
    assert value["suggestions"] == []
    assert value["peak_bytes"] == max(sum(items.values()) for items in value["moments"].values())
    text = describe_plan(plan, 80 * GIB, None)
    assert f"{value['peak_bytes'] / GIB:.2f} *" in text
    assert "fits, with" in text
