"""The mixture-of-experts layers of a model: where they are, which kernel computes them, and how ranks divide them.

A layer's experts are one module with stacked weights [experts, ...]; a router beside it chooses some for each token. The grouped
kernel sorts the tokens by expert and multiplies all groups in one call; the loop takes one expert after the other.

Expert parallelism: the ranks are a mesh (data, expert); `experts.parallel_size` ranks in a row are an expert group and
hold every expert once between them, each computing rows of its own. A token travels to the rank of each of its experts and its
result travels back, so no two ranks share a batch. Everything but the experts is sharded over all ranks, an expert over the
ranks of its data dimension. Shapes: T tokens of this rank's row, k experts per token, H hidden size, E experts, P ranks of an
expert group.

Source: https://huggingface.co/docs/transformers/experts_interface; Lepikhin et al., GShard, arXiv:2006.16668; the mesh as in
torchtitan, Liang et al., arXiv:2410.06511.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel

from training.engine.process_group import Ranks
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


Forward = Callable[[Any, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def divide_experts(model: torch.nn.Module, parallel_size: int, ranks: Ranks, options: dict[str, Any]) -> None:
    """Leave each rank its part of every layer's experts, sharded over its data dimension; before the layers are sharded.

    Every rank must hold the same weights now, or get them afterwards (`load_model`).

    Args:
        model: A model whose kernel of the experts is chosen.
        parallel_size: Ranks of an expert group.
        ranks: Where this process stands.
        options: What `fully_shard` is told of the other modules, less the mesh.

    Raises:
        ModelError: If the model has no experts, or they cannot be divided so.
    """
    layers = list_expert_layers(model)
    if not layers or layers[0].num_experts % parallel_size or not all(layer.has_interface for layer in layers):
        seen = f"{layers[0].num_experts} experts" if layers else "no experts"
        raise ModelError(
            f"training.experts.parallel_size is {parallel_size}, and {type(model).__name__} has {seen}",
            expected="an architecture of transformers' experts interface whose number of experts it divides",
        )
    shape = (ranks.world_size // parallel_size, parallel_size)
    mesh = init_device_mesh(ranks.device.type, shape, mesh_dim_names=("data", "expert"))
    for layer in layers:
        _divide(layer, mesh)
        _shard(layer.experts, mesh, options)


def _divide(layer: ExpertLayer, mesh: DeviceMesh) -> None:
    """Cut this rank's experts out of the stacked weights, and let tokens travel to theirs."""
    group, experts = mesh["expert"], layer.experts
    num_local = layer.num_experts // group.size()
    start = group.get_local_rank() * num_local
    for name, parameter in list(experts.named_parameters(recurse=False)):
        mine = parameter.detach()[start : start + num_local].clone()
        sharded = DTensor.from_local(mine, group, [Shard(0)], run_check=False)
        experts.register_parameter(name, torch.nn.Parameter(sharded, requires_grad=parameter.requires_grad))
    part = _ExpertsPart(experts, type(experts).forward, num_local, group.get_group())
    experts.forward = part.compute  # type: ignore[method-assign]


def _shard(experts: torch.nn.Module, mesh: DeviceMesh, options: dict[str, Any]) -> None:
    """Shard a rank's experts over the data dimension, and set by what their gradients are divided.

    The loss of each rank is multiplied by the number of ranks W, because FSDP divides the sum of the gradients by W. An
    expert's gradient on one rank already is a sum over the P ranks whose tokens came to it; the sum over the W / P ranks of the
    data dimension completes it, and FSDP would divide by W / P. So W it must be here, too.
    """
    fully_shard(
        experts, mesh=mesh["data"], shard_placement_fn=partial(_choose_dimension, mesh["data"].size()), **options
    )
    if not isinstance(experts, FSDPModule):
        raise RuntimeError("fully_shard left the experts as they were")
    experts.set_gradient_divide_factor(float(mesh.size()))
    if mesh["data"].size() > 1:
        # Gloo has no sum with a factor. On one rank there is no reduction and FSDP would divide twice.
        experts.set_force_sum_reduction_for_comms(True)


def _choose_dimension(num_shards: int, parameter: torch.nn.Parameter) -> Shard:
    """Return the first dimension behind the experts that can be cut evenly: dimension 0 is cut by the expert group."""
    for dimension in range(1, parameter.ndim):
        if parameter.size(dimension) % num_shards == 0:
            return Shard(dimension)
    raise ModelError(
        f"an expert's weights {tuple(parameter.shape[1:])} cannot be cut into {num_shards} even parts",
        expected="a number of workers over training.experts.parallel_size that divides one of its sizes",
        remedy="change training.num_workers or training.experts.parallel_size",
    )


@dataclass(frozen=True, slots=True)
class _ExpertsPart:
    """This rank's part of a layer's experts.

    Attributes:
        experts: The module, with this rank's weights.
        forward: Its class's forward method, which runs the chosen kernel.
        num_local: Experts of this rank.
        group: Its expert group.
    """

    experts: torch.nn.Module
    forward: Forward
    num_local: int
    group: dist.ProcessGroup

    def compute(self, hidden: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor) -> torch.Tensor:
        """Compute what the whole layer does: [T, H] of [T, H], chosen experts [T, k] and their weights [T, k]."""
        choices = top_k_index.reshape(-1)
        order = torch.argsort(choices, stable=True)
        counts = choices.new_zeros(self.num_local * self.group.size())
        counts.scatter_add_(0, choices, torch.ones_like(choices))
        arriving = torch.empty_like(counts)  # [P * local experts], rank after rank
        dist.all_to_all_single(arriving, counts, group=self.group)
        # The one place where the device is waited for: how many rows travel must be known here.
        sizes = torch.stack([counts, arriving]).view(2, self.group.size(), self.num_local).sum(2).tolist()
        received = _Exchange.apply(hidden[order // top_k_index.size(-1)], sizes[0], sizes[1], self.group)
        local = torch.arange(self.num_local, device=choices.device).repeat(self.group.size())
        results = self._compute_local(received, local.repeat_interleave(arriving))
        returned = _Exchange.apply(results, sizes[1], sizes[0], self.group)
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        weighted = returned[places] * top_k_weights.reshape(-1, 1)
        return weighted.view(*top_k_index.shape, -1).sum(1).to(hidden.dtype)

    def _compute_local(self, rows: torch.Tensor, choices: torch.Tensor) -> torch.Tensor:
        """Compute rows [R, H] by one local expert each, chosen by number [R]."""
        num_rows = len(rows)
        if not num_rows:
            # A rank that nobody asks takes part in the reduction of gradients all the same, with zeros.
            rows, choices = torch.cat([rows, rows.new_zeros(1, rows.size(1))]), choices.new_zeros(1)
        weights = rows.new_ones(len(rows), 1)
        return self.forward(_LocalExperts(self.experts, self.num_local), rows, choices.unsqueeze(1), weights)[:num_rows]


class _LocalExperts:
    """The experts module as its kernel shall see it: this rank's experts, as plain tensors."""

    def __init__(self, experts: torch.nn.Module, num_experts: int) -> None:
        self._experts = experts
        self.num_experts = num_experts
        for name, parameter in experts.named_parameters(recurse=False):
            setattr(self, name, parameter.to_local() if isinstance(parameter, DTensor) else parameter)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._experts, name)


class _Exchange(torch.autograd.Function):
    """Rows to other ranks and from them; gradients travel the same way back."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, rows: torch.Tensor, sent: Sequence[int], received: Sequence[int], group: dist.ProcessGroup
    ) -> torch.Tensor:
        ctx.way_back = (received, sent, group)
        return _exchange(rows, sent, received, group)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:  # type: ignore[override]
        return _exchange(gradient, *ctx.way_back), None, None, None


def _exchange(
    rows: torch.Tensor, sent: Sequence[int], received: Sequence[int], group: dist.ProcessGroup
) -> torch.Tensor:
    arrived = rows.new_empty(sum(received), rows.size(1))
    dist.all_to_all_single(arrived, rows.contiguous(), list(received), list(sent), group=group)
    return arrived
