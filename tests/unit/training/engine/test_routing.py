from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from tests.tiny_model import make_tiny_model
from training.engine.batches import Batch, Document, build_batch
from training.engine.model import load_model, read_model
from training.engine.process_group import join_ranks
from training.engine.routing import StepRouting, describe_routing, get_routing, watch_routing
from training.engine.step import StepTotals, compute_gradients, reduce_figures
from voc.config.training import ExpertsConfig, OptimizerConfig, TrainingConfig
from voc.errors import ModelError

NUM_EXPERTS = 8
NUM_LAYERS = 2


@pytest.fixture(scope="module")
def sparse_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "sparse", num_experts=NUM_EXPERTS)


def make_documents(*lengths: int) -> list[Document]:
    draw = np.random.default_rng(3)
    parts = [draw.integers(0, 300, length, dtype=np.int32) for length in lengths]
    return [Document(ids, ids) for ids in parts]


def make_settings(weight: float = 0.0, **changes: object) -> TrainingConfig:
    return TrainingConfig(
        max_steps=1,
        global_batch_size=1,
        max_seq_len=64,
        param_dtype="float32",
        optimizer=OptimizerConfig(learning_rate=1e-3),
        experts=ExpertsConfig(router_aux_loss_weight=weight),
        **changes,
    )


def run_passes(
    base: Path, settings: TrainingConfig, passes: list[Batch], num_tokens: int
) -> tuple[StepTotals, dict[str, torch.Tensor]]:
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(base, settings, ranks)
        options = {"num_targets": num_tokens, "num_tokens": num_tokens, "world_size": 1, "syncs_every_pass": False}
        loss_sum = compute_gradients(model, passes, **options)
        totals = reduce_figures(model, passes, loss_sum, num_tokens)
        return totals, {name: p.grad.clone() for name, p in model.named_parameters()}


def see_routers(base: Path, batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return each layer's logits and choices, seen from outside."""
    model = read_model(base)
    seen: list = []
    for layer in model.model.layers:
        layer.mlp.gate.register_forward_hook(lambda _m, _i, output: seen.append((output[0], output[2])))
    model.packed_loss(batch)
    return seen


def compute_reference(base: Path, documents: list[Document]) -> float:
    """The load-balancing loss from its equations: mean over layers of E x sum f P."""
    losses = []
    for logits, choices in see_routers(base, build_batch(documents, pad_id=0)):
        share = torch.bincount(choices.flatten(), minlength=NUM_EXPERTS) / choices.numel()
        losses.append(NUM_EXPERTS * (share * logits.softmax(-1).mean(0)).sum())
    return float(torch.stack(losses).mean())


def test_the_loss_is_that_of_the_equations_and_padding_is_not_in_it(sparse_base: Path) -> None:
    documents = make_documents(20, 30)
    for padded_length in (None, 64):
        batch = build_batch(documents, pad_id=0, padded_length=padded_length)
        totals, _ = run_passes(sparse_base, make_settings(), [batch], 50)
        assert totals.routing.aux_loss == pytest.approx(compute_reference(sparse_base, documents), rel=1e-5)
        assert totals.routing.aux_loss > 1


def test_for_one_layer_it_is_the_loss_of_transformers_per_choice(tmp_path: Path) -> None:
    """transformers' figure is k times ours; over several layers it multiplies means over all layers."""
    base = make_tiny_model(tmp_path / "one", num_layers=1, num_experts=NUM_EXPERTS)
    batch = build_batch(make_documents(20, 30), pad_id=0)
    (logits, _), *_ = see_routers(base, batch)
    expected = load_balancing_loss_func((logits,), NUM_EXPERTS, 2) / 2
    totals, _ = run_passes(base, make_settings(), [batch], 50)
    assert totals.routing.aux_loss == pytest.approx(float(expected), rel=1e-5)


def test_it_is_minimised_with_the_cross_entropy_and_is_not_part_of_the_reported_loss(sparse_base: Path) -> None:
    batch = build_batch(make_documents(20, 30), pad_id=0)
    without, plain = run_passes(sparse_base, make_settings(), [batch], 50)
    with_it, gradients = run_passes(sparse_base, make_settings(0.5), [batch], 50)
    assert with_it.loss == without.loss
    assert with_it.routing.aux_loss == without.routing.aux_loss
    model = read_model(sparse_base)
    watch_routing(model, 0.5, torch.device("cpu"))
    with get_routing(model).record(batch) as sum_aux_loss:
        model.packed_loss(batch)
    (sum_aux_loss() / 50).backward()
    for name, parameter in model.named_parameters():
        added = torch.zeros_like(parameter) if parameter.grad is None else 0.5 * parameter.grad
        torch.testing.assert_close(gradients[name], plain[name] + added, rtol=1e-3, atol=1e-6, msg=name)
    assert model.model.layers[0].mlp.gate.weight.grad.abs().sum() > 0


def test_a_step_of_several_passes_averages_them_by_their_tokens(sparse_base: Path) -> None:
    parts = [make_documents(20), make_documents(7, 13), []]
    passes = [build_batch(part, pad_id=0) for part in parts]
    totals, _ = run_passes(sparse_base, make_settings(0.1), passes, 40)
    expected = sum(compute_reference(sparse_base, part) for part in parts[:2]) / 2
    assert totals.routing.aux_loss == pytest.approx(expected, rel=1e-5)
    whole, _ = run_passes(sparse_base, make_settings(0.1), [build_batch(parts[0] + parts[1], pad_id=0)], 40)
    assert whole.routing.aux_loss != pytest.approx(expected, rel=1e-3), "it is not additive, as documented"


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_every_choice_is_counted_once_whatever_is_computed_again(sparse_base: Path, checkpointing: str) -> None:
    documents = make_documents(20, 30)
    settings = make_settings(0.1, activation_checkpointing=checkpointing)
    passes = [build_batch([document], pad_id=0, padded_length=40) for document in documents]
    totals, gradients = run_passes(sparse_base, settings, passes, 50)
    seen = [see_routers(sparse_base, build_batch([document], pad_id=0)) for document in documents]
    for layer in range(NUM_LAYERS):
        choices = torch.cat([part[layer][1].flatten() for part in seen])
        assert totals.routing.tokens[layer].tolist() == torch.bincount(choices, minlength=NUM_EXPERTS).tolist()
    assert totals.routing.tokens.sum() == NUM_LAYERS * 2 * 50
    plain, expected = run_passes(sparse_base, make_settings(0.1), passes, 50)
    assert totals.routing.aux_loss == plain.routing.aux_loss
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, msg=name)


def test_compiled_layers_are_watched_too(sparse_base: Path) -> None:
    batch = build_batch(make_documents(20, 30), pad_id=0, padded_length=64, longest=64)
    plain, expected = run_passes(sparse_base, make_settings(0.1), [batch], 50)
    compiled, gradients = run_passes(sparse_base, make_settings(0.1, compile="layers"), [batch], 50)
    assert torch.equal(compiled.routing.tokens, plain.routing.tokens)
    assert compiled.routing.aux_loss == pytest.approx(plain.routing.aux_loss, rel=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_nothing_is_counted_outside_of_a_recording(sparse_base: Path) -> None:
    batch = build_batch(make_documents(20), pad_id=0)
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(sparse_base, make_settings(), ranks)
        with torch.no_grad():
            model.packed_loss(batch)
        assert get_routing(model).list_totals().tolist() == [0.0] * (2 + NUM_LAYERS * NUM_EXPERTS)


def test_figures_relate_the_load_to_an_equal_one() -> None:
    figures = describe_routing(StepRouting(1.25, torch.tensor([[4, 4, 4, 4], [10, 6, 0, 0]])))
    assert figures == {
        "router_aux_loss": 1.25,
        "expert_load": {
            "max_ratio": 2.5,
            "min_ratio": 0.0,
            "unused": 2,
            "max_ratio_per_layer": [1.0, 2.5],
            "min_ratio_per_layer": [1.0, 0.0],
        },
    }
    assert "router_aux_loss" not in describe_routing(StepRouting(None, torch.tensor([[1, 1]])))
    assert describe_routing(None) == {}


def test_the_histogram_sums_the_steps_since_the_one_before(sparse_base: Path) -> None:
    model = read_model(sparse_base)
    watch_routing(model, 0.0, torch.device("cpu"))
    routing = get_routing(model)
    step = [1.0, 1.0, *range(NUM_LAYERS * NUM_EXPERTS)]
    routing.read_totals(step)
    routing.read_totals(step)
    histogram = routing.take_histogram(last_step=7)
    assert histogram["first_step"] == 6
    assert histogram["tokens"] == [[0, 2, 4, 6, 8, 10, 12, 14], [16, 18, 20, 22, 24, 26, 28, 30]]
    routing.read_totals(step)
    assert routing.take_histogram(last_step=8)["tokens"][0] == list(range(NUM_EXPERTS))


def test_a_dense_model_cannot_be_balanced_and_has_no_routing(tiny_base: Path) -> None:
    model = read_model(tiny_base)
    with pytest.raises(ModelError, match=r"router_aux_loss_weight is 0\.01, and Qwen3ForCausalLM has no experts"):
        watch_routing(model, 0.01, torch.device("cpu"))
    watch_routing(model, 0.0, torch.device("cpu"))
    assert get_routing(model) is None


def test_a_router_that_is_not_found_is_an_error_only_when_it_is_needed(sparse_base: Path) -> None:
    model = read_model(sparse_base)
    for layer in model.model.layers:
        layer.mlp.gate.forward = lambda *_: None
        layer.mlp.other = layer.mlp.gate
        layer.mlp.other.__class__ = torch.nn.Identity
        del layer.mlp.gate
    with pytest.raises(ModelError, match="were not found"):
        watch_routing(model, 0.01, torch.device("cpu"))
    watch_routing(model, 0.0, torch.device("cpu"))
    assert get_routing(model) is not None


def test_a_balanced_router_has_the_loss_one(sparse_base: Path) -> None:
    """One layer's choices are equal by construction: every token sees logits of its own two experts."""
    model = read_model(sparse_base)
    watch_routing(model, 0.1, torch.device("cpu"))
    routing = get_routing(model)
    experts, router = model.model.layers[0].mlp.experts, model.model.layers[0].mlp.gate
    other, other_router = model.model.layers[1].mlp.experts, model.model.layers[1].mlp.gate
    batch = build_batch(make_documents(4), pad_id=0)
    choices = torch.arange(NUM_EXPERTS).view(4, 2)
    logits = torch.zeros(4, NUM_EXPERTS).scatter(1, choices, 5.0)
    with routing.record(batch) as sum_aux_loss:
        for module, gate in ((experts, router), (other, other_router)):
            next(iter(module._forward_pre_hooks.values()))(module, (torch.zeros(4, 32), choices, logits), {})
            next(iter(gate._forward_hooks.values()))(gate, (), (logits, logits, choices))
    assert float(sum_aux_loss()) / 4 == pytest.approx(1.0)
