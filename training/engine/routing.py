"""What the routers of a model do while it trains: tokens per expert, and the load-balancing loss.

Hooks keep what each router saw and chose in a forward pass that is being recorded. A pass that is computed again for the
backward pass lies outside of the recording, so nothing is counted twice. Counts stay on the device and travel with the
step's other figures in one reduction; the histogram of each checkpoint interval is left in `expert_load.json`.

The loss of one layer in one forward pass is E x sum over experts of f x P: f is an expert's share of the choices, P the
mean of its probabilities, both over the pass's tokens without padding. It is 1 where all are equal. Layers are averaged;
passes, on all ranks, are averaged by their tokens. It is a product of two means, so it is **not additive**: the same samples
in other passes, or on another number of ranks, give another value and slightly other gradients, unlike the cross-entropy.

Shapes: T tokens of a row, E experts, k experts per token, L expert layers.

Source: Fedus et al., Switch Transformers, arXiv:2101.03961, equations 4 to 6; f counts all k choices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from training.engine.batches import Batch
from training.engine.experts import ExpertLayer, list_expert_layers
from voc.errors import ModelError

EXPERT_LOAD_NAME = "expert_load.json"


@dataclass(frozen=True, slots=True)
class StepRouting:
    """What the routers did in one step, on all ranks.

    Attributes:
        aux_loss: The load-balancing loss; None where the routers do not show their logits.
        tokens: [L, E] int64 on the CPU, choices of each expert; padding is not counted.
    """

    aux_loss: float | None
    tokens: torch.Tensor


class Routing:
    """Watches the routers of one model.

    Args:
        layers: Its expert layers.
        aux_loss_weight: Weight of the load-balancing loss in what is minimised.
        device: Where the model computes.
    """

    def __init__(self, layers: Sequence[ExpertLayer], aux_loss_weight: float, device: torch.device) -> None:
        self.layer_names = [layer.name for layer in layers]
        self.aux_loss_weight = aux_loss_weight
        self._num_experts = layers[0].num_experts
        self._is_recording = False
        self._choices: dict[int, torch.Tensor] = {}
        self._logits: dict[int, torch.Tensor] = {}
        self._tokens = torch.zeros(len(layers), self._num_experts, dtype=torch.int64, device=device)
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)  # loss x tokens, tokens it is known of
        self._interval = torch.zeros(len(layers), self._num_experts, dtype=torch.int64)
        self._interval_steps = 0
        for index, layer in enumerate(layers):
            layer.experts.register_forward_pre_hook(partial(self._see_choices, index), with_kwargs=True)
            if layer.router is not None:
                layer.router.register_forward_hook(partial(self._see_logits, index))

    @contextmanager
    def record(self, batch: Batch) -> Iterator[Callable[[], torch.Tensor]]:
        """Watch one forward pass.

        Yields:
            A function that returns, after the pass and once, its load-balancing loss times its tokens, with a gradient.
        """
        self._choices, self._logits = {}, {}
        self._is_recording = True
        try:
            yield partial(self._finish, batch.num_tokens)
        finally:
            self._is_recording = False

    def list_totals(self) -> torch.Tensor:
        """Return what this rank adds to the step's totals, [2 + L * E] float64, and start over."""
        totals = torch.cat([self._sums, self._tokens.flatten().double()])
        self._sums.zero_()
        self._tokens.zero_()
        return totals

    def read_totals(self, totals: Sequence[float]) -> StepRouting:
        """Return a step's totals over all ranks in order, and keep them for the histogram."""
        weighted, known, *counts = totals
        tokens = torch.tensor(counts, dtype=torch.float64).long().view_as(self._interval)
        self._interval += tokens
        self._interval_steps += 1
        return StepRouting(weighted / known if known else None, tokens)

    def take_histogram(self, last_step: int) -> dict[str, Any]:
        """Return the choices of each expert [L][E] since the last call, of the steps up to this one, and start over."""
        histogram = {"first_step": last_step - self._interval_steps + 1, "tokens": self._interval.tolist()}
        self._interval.zero_()
        self._interval_steps = 0
        return histogram

    @property
    def has_open_interval(self) -> bool:
        """Tell whether steps were made since the last histogram."""
        return self._interval_steps > 0

    def _finish(self, num_tokens: int) -> torch.Tensor:
        choices, logits = self._choices, self._logits
        self._choices, self._logits = {}, {}
        counts = torch.stack([self._count(choices[i][:num_tokens]) for i in range(len(self.layer_names))])
        self._tokens += counts
        if len(logits) < len(self.layer_names) and self.aux_loss_weight > 0:
            raise ModelError(
                f"training.experts.router_aux_loss_weight is {self.aux_loss_weight}, and a router returned no logits",
                expected="routers that return logits of all experts",
                remedy="set it to 0",
            )
        if not num_tokens or len(logits) < len(self.layer_names):
            return self._sums.new_zeros((), dtype=torch.float32)
        shares = counts.float() / counts.sum(1, keepdim=True)
        with torch.set_grad_enabled(self.aux_loss_weight > 0):
            means = torch.stack([logits[i][:num_tokens].float().softmax(-1).mean(0) for i in range(len(logits))])
            loss = (shares * means).sum(1).mean() * (self._num_experts * num_tokens)
        self._sums += torch.stack([loss.detach().double(), loss.new_full((), num_tokens, dtype=torch.float64)])
        return loss

    def _count(self, choices: torch.Tensor) -> torch.Tensor:
        """Return how often each expert was chosen, [E] int64, without waiting for the device as bincount does."""
        flat = choices.reshape(-1).long()
        return flat.new_zeros(self._num_experts).scatter_add_(0, flat, torch.ones_like(flat))

    # Hooks only keep what passes by: an operation here would be missing, or be one too many, when the layer is
    # computed again.
    def _see_choices(self, index: int, _module: Any, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        if self._is_recording:
            tensors = [value for value in (*inputs, *named.values()) if isinstance(value, torch.Tensor)]
            self._choices[index] = next(tensor for tensor in tensors if not tensor.is_floating_point())

    def _see_logits(self, index: int, _module: Any, _inputs: Any, output: Any) -> None:
        # A router that returns its logits alone leaves it to its block how it chooses, so its softmax says nothing.
        if self._is_recording and isinstance(output, tuple):
            wide = [value for value in output if value.is_floating_point() and value.size(-1) == self._num_experts]
            if wide:
                self._logits[index] = wide[0]


def watch_routing(model: torch.nn.Module, aux_loss_weight: float, device: torch.device) -> None:
    """Give a mixture-of-experts model its `routing`; a dense model has None.

    Raises:
        ModelError: If the load-balancing loss is asked for and the model has no router that shows what it needs.
    """
    layers = list_expert_layers(model)
    if aux_loss_weight > 0 and not all(_shows_logits(layer) for layer in layers):
        raise ModelError(
            f"training.experts.router_aux_loss_weight is {aux_loss_weight}, and the routers of {type(model).__name__} "
            "were not found or are balanced in a way of their own",
            expected="routers that return logits and choices, as Qwen3-MoE's and Mixtral's",
            remedy="set it to 0",
        )
    if aux_loss_weight > 0 and not layers:
        raise ModelError(
            f"training.experts.router_aux_loss_weight is {aux_loss_weight}, and {type(model).__name__} has no experts",
            expected="0 for a dense model",
        )
    model.routing = Routing(layers, aux_loss_weight, device) if layers else None  # type: ignore[assignment]


def get_routing(model: torch.nn.Module) -> Routing | None:
    """Return a model's `routing`."""
    routing: Routing | None = getattr(model, "routing", None)
    return routing


def _shows_logits(layer: ExpertLayer) -> bool:
    """Tell whether a layer's router is of the kind that returns logits, weights and choices: `*TopKRouter` in transformers."""
    return type(layer.router).__name__.endswith("TopKRouter")


def describe_routing(step: StepRouting | None) -> dict[str, Any]:
    """Return the figures of a step's routing; ratios are of an expert's load to the load if all were equal."""
    if step is None:
        return {}
    ratios = step.tokens * step.tokens.size(1) / step.tokens.sum(1, keepdim=True).clamp(min=1)
    most, least = ratios.max(1).values, ratios.min(1).values
    load = {
        "max_ratio": round(float(most.max()), 4),
        "min_ratio": round(float(least.min()), 4),
        "unused": int((step.tokens == 0).sum()),
        "max_ratio_per_layer": [round(value, 3) for value in most.tolist()],
        "min_ratio_per_layer": [round(value, 3) for value in least.tolist()],
    }
    loss: dict[str, Any] = {} if step.aux_loss is None else {"router_aux_loss": step.aux_loss}
    return {**loss, "expert_load": load}


def write_expert_load(path: Path, metrics: Sequence[Mapping[str, Any]], routing: Routing | None) -> None:
    """Write the histograms that lie in the figures of a training, and what came after them; nothing for a dense model.

    Steps that were interrupted after a histogram and resumed elsewhere are in none: each names its first and last step.
    """
    if routing is None:
        return
    found = [(line["step"], line["expert_tokens"]) for line in metrics if "expert_tokens" in line]
    if routing.has_open_interval:
        found.append((metrics[-1]["step"], routing.take_histogram(metrics[-1]["step"])))
    intervals = [
        {"first_step": part["first_step"], "last_step": step, "tokens": part["tokens"]} for step, part in found
    ]
    path.write_text(json.dumps({"layers": routing.layer_names, "intervals": intervals}))
