"""The mixture-of-experts layers of a model: where they are, and which kernel computes them.

A layer's experts are one module with stacked weights [experts, ...]; a router beside it chooses some for each token. The grouped
kernel sorts the tokens by expert and multiplies all groups in one call; the loop takes one expert after the other.

Source: https://huggingface.co/docs/transformers/experts_interface
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from voc.errors import ModelError

_IMPLEMENTATIONS = {"grouped_mm": "grouped_mm", "loop": "eager"}  # ours: transformers'


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """The experts of one decoder layer.

    Attributes:
        name: The module's path in the model.
        experts: The module that holds them; called with hidden states [T, H], chosen experts [T, k] and their weights.
        router: The module beside it that chooses, where one was found.
        num_experts: Experts of the whole model in this layer.
    """

    name: str
    experts: torch.nn.Module
    router: torch.nn.Module | None
    num_experts: int

    @property
    def has_interface(self) -> bool:
        """Tell whether transformers can exchange its kernel."""
        return hasattr(self.experts, "has_gate") and hasattr(self.experts, "is_transposed")


def list_expert_layers(model: torch.nn.Module) -> list[ExpertLayer]:
    """Return the expert layers in the order of the model; a dense model has none.

    Raises:
        ModelError: If they do not have the same number of experts.
    """
    layers = []
    for parent_name, parent in model.named_modules():
        for name, module in parent.named_children():
            if not _holds_experts(module):
                continue
            path = f"{parent_name}.{name}" if parent_name else name
            layers.append(ExpertLayer(path, module, _find_router(parent), int(module.num_experts)))  # type: ignore[arg-type]
    counts = sorted({layer.num_experts for layer in layers})
    if len(counts) > 1:
        raise ModelError(
            f"the layers of {type(model).__name__} have {', '.join(map(str, counts))} experts",
            expected="the same number in every layer",
        )
    return layers


def choose_experts_kernel(model: PreTrainedModel, wanted: str) -> None:
    """Let a model compute its experts by `grouped_mm` or by the `loop`; nothing for a dense model.

    Raises:
        ModelError: If this architecture has one way only, and it is not the wanted one.
    """
    layers = list_expert_layers(model)
    if not layers:
        return
    if not all(layer.has_interface for layer in layers):
        if wanted == "loop":
            return
        raise ModelError(
            f"training.experts.implementation is {wanted}, and {type(layers[0].experts).__name__} computes its experts "
            "in a way of its own",
            expected="loop for this architecture",
        )
    model.set_experts_implementation(_IMPLEMENTATIONS[wanted])


def _holds_experts(module: torch.nn.Module) -> bool:
    stacked = any(parameter.ndim == 3 for parameter in module.parameters(recurse=False))
    return stacked and isinstance(getattr(module, "num_experts", None), int)


def _find_router(block: torch.nn.Module) -> torch.nn.Module | None:
    """Return the router of a sparse block: the child whose class is called one, else the one that is called gate or router."""
    children = dict(block.named_children())
    named = [module for module in children.values() if type(module).__name__.lower().endswith("router")]
    return next(iter(named), None) or children.get("gate") or children.get("router")
