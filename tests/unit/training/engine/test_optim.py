from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from training.engine.model import read_model
from training.engine.optim import (
    build_optimizers,
    clip_gradients,
    learning_rate_ratio,
    set_learning_rates,
    split_parameters,
    sum_squares,
)
from voc.config.training import OptimizerConfig

CONFIG = OptimizerConfig(name="muon", learning_rate=1e-3, warmup_steps=4, final_learning_rate_ratio=0.1)


def test_the_rate_warms_up_reaches_the_peak_and_ends_at_the_final_ratio() -> None:
    ratios = [learning_rate_ratio(step, 20, CONFIG) for step in range(20)]
    assert ratios[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert ratios[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(ratios[4:]))


def test_a_run_shorter_than_its_warm_up_never_passes_the_peak() -> None:
    assert [learning_rate_ratio(step, 3, CONFIG) for step in range(3)] == [0.25, 0.5, 0.75]
    assert learning_rate_ratio(0, 1, CONFIG.model_copy(update={"warmup_steps": 0})) == 1.0


def test_muon_gets_matrices_and_never_the_embedding(tiny_base: Path) -> None:
    model = read_model(tiny_base)
    names = {id(p): name for name, p in model.named_parameters()}
    matrices, rest = ([names[id(p)] for p in part] for part in split_parameters(model))
    assert len(matrices) == 14
    assert all(".layers." in name and "norm" not in name for name in matrices)
    assert "model.embed_tokens.weight" in rest
    assert len(matrices) + len(rest) == len(names)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_both_optimizers_cover_every_parameter_once_and_scale_from_their_peaks(tiny_base: Path, name: str) -> None:
    model = read_model(tiny_base)
    optimizers = build_optimizers(model, CONFIG.model_copy(update={"name": name, "weight_decay": 0.1}))
    covered = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(covered) == sorted(id(p) for p in model.parameters())
    set_learning_rates(optimizers, 0.5)
    set_learning_rates(optimizers, 0.5)
    rates = {g["lr"] for o in optimizers for g in o.param_groups}
    assert rates == ({5e-4} if name == "adamw" else {5e-4, 0.01})
    decayed = {id(p) for o in optimizers for g in o.param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(p) for p in split_parameters(model)[0]}


def test_gradients_above_the_limit_are_scaled_to_it_and_others_left_alone() -> None:
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    assert sum_squares(gradients).item() == pytest.approx(25.0)
    clip_gradients(gradients, 5.0, 10.0)
    assert gradients[1].item() == 4.0
    clip_gradients(gradients, 5.0, 1.0)
    assert sum_squares(gradients).item() == pytest.approx(1.0)


def test_the_rate_of_8_bit_adamw_is_changed_in_place_because_its_step_is_compiled(tiny_base: Path) -> None:
    model = read_model(tiny_base)
    optimizers = build_optimizers(model, CONFIG.model_copy(update={"name": "adamw_8bit"}))
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    set_learning_rates(optimizers, 0.5)
    set_learning_rates(optimizers, 0.25)
    assert [float(rate) for rate in rates] == pytest.approx([2.5e-4] * len(rates))
