"""Predict the memory of one GPU (or CPU process) in full-parameter training, before anything is started.

A step has a few moments at which most is alive: the loss, the backward pass of the last layer and of the first, the
gradient of the embedding, the update. Each is itemised; the largest is the peak. Pure arithmetic on config.json and the
training settings, so that a preflight without torch can do it. `benchmarks/engine/memory_plan_check.py` compares it with
measured peaks.

The figures are those of full micro-batches (`micro_batch_size` x `max_seq_len` tokens) in which every token is learned: an upper
bound. Layers are counted as they run without `compile`, which keeps less.

Source: what is kept, `voc.memory.parts`; FSDP2's buffers, `torch.distributed.fsdp._fully_shard` of torch 2.13.

Of a training section it needs nothing but the names of its settings (`read_setup`), so that a benchmark without the
configuration's packages can plan too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from voc.memory.parts import (
    DTYPE_BYTES,
    FLOAT32_BYTES,
    BytesPerParameter,
    count_backward_work,
    count_kept,
    count_loss,
    count_optimizer,
    count_recomputed,
    count_root,
    measure_precision,
    shard,
    split_shapes,
)
from voc.models.shapes import ModelShapes, Shape, count

GIB = 1 << 30
# The CUDA context with its kernels (about 0.5 GiB), cuBLAS' workspaces and NCCL's channels: an assumption, not measured.
CUDA_CONTEXT_BYTES = GIB
# Blocks that the allocator holds and no tensor uses: an assumption for expandable segments and unequal micro-batches.
ALLOCATOR_SLACK_RATIO = 0.03
RESERVE_RATIO = 0.05  # share of a GPU's memory that a plan leaves free

ITEMS = (
    "weights",
    "gathered weights",
    "gradients",
    "optimizer",
    "activations",
    "logits and loss",
    "work and communication",
    "context",
    "allocator slack",
)


@dataclass(frozen=True, slots=True)
class Moment:
    """What is alive at one point of a step, in bytes by item."""

    name: str
    items: dict[str, int]

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.items.values())


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of one rank.

    Attributes:
        shapes: The model.
        setup: The settings.
        moments: In the order of a step.
        bytes_per_parameter: Weights, gradients and optimizer state over all ranks.
    """

    shapes: ModelShapes
    setup: TrainingSetup
    moments: tuple[Moment, ...]
    bytes_per_parameter: BytesPerParameter

    @property
    def peak(self) -> Moment:
        """The moment at which most is alive."""
        return max(self.moments, key=lambda moment: moment.total)

    def fits(self, memory_bytes: int) -> bool:
        """Tell whether the peak leaves the reserve free."""
        return self.peak.total <= usable_bytes(memory_bytes)


def usable_bytes(memory_bytes: int) -> int:
    """Return the memory that a plan may use."""
    return int(memory_bytes * (1 - RESERVE_RATIO))


def plan_memory(shapes: ModelShapes, setup: TrainingSetup) -> MemoryPlan:
    """Predict what one rank holds at each moment of a step."""
    moments = tuple(_add_overhead(moment, setup) for moment in _Step(shapes, setup).list_moments())
    matrices, rest = split_shapes(shapes)
    precision = measure_precision(matrices, rest, optimizer=setup.optimizer, master_dtype=setup.master_dtype)
    return MemoryPlan(shapes, setup, moments, precision)


def _add_overhead(moment: Moment, setup: TrainingSetup) -> Moment:
    if setup.device != "cuda":
        return moment
    slack = int(moment.total * ALLOCATOR_SLACK_RATIO)
    return Moment(moment.name, {**moment.items, "context": CUDA_CONTEXT_BYTES, "allocator slack": slack})


class _Step:
    """The moments of one step on one rank."""

    def __init__(self, shapes: ModelShapes, setup: TrainingSetup) -> None:
        self.shapes, self.setup = shapes, setup
        self.size, self.master = DTYPE_BYTES[setup.param_dtype], DTYPE_BYTES[setup.master_dtype]
        ranks = setup.num_workers if setup.is_sharded else 1
        every = shapes.list_all_tensors()
        self.local = sum(shard(shape, ranks) for shape in every)
        self.root = count(shapes.list_root_tensors())
        self.head = shapes.vocab_size * shapes.hidden_size
        self.kinds = [(False, shapes.num_layers - shapes.num_expert_layers), (True, shapes.num_expert_layers)]
        self.layer = max(self._gathered(with_experts) for with_experts, number in self.kinds if number)
        self.whole = self.root + sum(self._gathered(with_experts) * number for with_experts, number in self.kinds)
        matrices, rest = split_shapes(shapes)
        self.fixed = {
            "weights": self.local * self.master,
            "optimizer": count_optimizer(matrices, rest, name=setup.optimizer, size=self.master, ranks=ranks),
        }
        self.ranks = ranks
        self.loss = count_loss(
            target_positions=setup.tokens,
            hidden=shapes.hidden_size,
            vocab=shapes.vocab_size,
            size=self.size,
            kernel=setup.loss_kernel,
            chunk=setup.loss_chunk_tokens,
        )

    def list_moments(self) -> Iterator[Moment]:
        """Yield the moments in the order of a step."""
        kept = self._kept()
        root = count_root(self.shapes, self.setup.tokens, self.size)
        before = self._gradients_before()
        yield self._moment("loss", before, kept + root, self._gathered_forward(), self.loss.forward)
        yield self._moment("backward of the loss", before, kept + root, self._gathered_root(), self.loss.backward)
        yield self._moment(
            "backward of the last layer",
            before + self._head_gradient(),
            kept + self._largest(count_recomputed),
            self._gathered_backward(),
            work=self._backward_work(),
        )
        one = self._largest(count_kept) + self._largest(count_recomputed)
        yield self._moment(
            "backward of the first layer",
            self._gradients_after() + self._head_gradient(),
            one,
            self._gathered_last(),
            work=self._backward_work(),
        )
        yield self._moment(
            "gradient of the embedding",
            self._gradients_after() + self._head_gradient(),
            0,
            self._gathered_root(),
            work=self._embedding_work(),
        )
        yield self._moment("update", self.local * self.master, 0, 0, work=self._update_work())

    def _moment(self, name: str, gradients: int, kept: int, gathered: int, loss: int = 0, *, work: int = 0) -> Moment:
        items = {
            "gathered weights": gathered,
            "gradients": gradients,
            "activations": kept,
            "logits and loss": loss,
            "work and communication": work,
        }
        return Moment(name, {item: {**self.fixed, **items}[item] for item in ITEMS if item in self.fixed | items})

    def _gathered(self, with_experts: bool) -> int:
        """Numbers of one layer when its weights are gathered; of experts that are shared out, this rank's."""
        tensors = self.shapes.list_layer_tensors(with_experts=with_experts)
        numbers = count(tensors)
        if with_experts:
            experts = count(self.shapes.list_expert_tensors())
            numbers += math.ceil(experts / self.setup.experts_parallel_size) - experts
        return numbers

    def _kept(self) -> int:
        return sum(self._per_layer(count_kept, kind) * number for kind, number in self.kinds if number)

    def _largest(self, counter: Any) -> int:
        return max(self._per_layer(counter, kind) for kind, number in self.kinds if number)

    def _per_layer(self, counter: Any, with_experts: bool) -> int:
        setup = self.setup
        result: int = counter(
            self.shapes,
            setup.tokens,
            self.size,
            mode=setup.activation_checkpointing,
            device=setup.device,
            with_experts=with_experts,
        )
        return result

    def _gradients_before(self) -> int:
        """Gradients of the micro-batches before, when a rank takes several."""
        if not self.setup.accumulates:
            return 0
        if not self.setup.is_sharded:
            return self.whole * self.master
        if self.setup.gradient_sync == "every_pass":
            return self.local * self.master
        return self.whole * FLOAT32_BYTES

    def _gradients_after(self) -> int:
        """Gradients of the layers when all but the first are done; the root's are still to come."""
        if not self.setup.is_sharded:
            return (self.whole if self.setup.accumulates else self.whole - self.root) * self.master
        layers = self.local - sum(shard(shape, self.ranks) for shape in self.shapes.list_root_tensors())
        root = self.root * FLOAT32_BYTES if self.setup.accumulates and self.setup.gradient_sync == "last_pass" else 0
        return layers * self.master + root

    def _head_gradient(self) -> int:
        return self.head * self.size

    def _gathered_root(self) -> int:
        return self.root * self.size if self.setup.is_sharded else 0

    def _gathered_forward(self) -> int:
        """Whole weights at the end of the forward pass."""
        if not self.setup.is_sharded:
            return 0
        return (self.whole if self.setup.device == "cpu" else self.root) * self.size

    def _gathered_backward(self) -> int:
        """Whole weights when the backward pass begins: two layers on CUDA, one used and one on its way."""
        if not self.setup.is_sharded:
            return 0
        return (self.whole if self.setup.device == "cpu" else self.root + 2 * self.layer) * self.size

    def _gathered_last(self) -> int:
        return (self.root + self.layer) * self.size if self.setup.is_sharded else 0

    def _backward_work(self) -> int:
        """Gradients of activations, one layer's gradients before they are reduced, and the buffers of the reduction."""
        work = max(
            count_backward_work(self.shapes, self.setup.tokens, self.size, with_experts=kind)
            for kind, number in self.kinds
            if number
        )
        if self.shapes.num_experts and self.setup.experts_implementation == "loop":
            # The gradient of one expert is written into zeros of the size of all, which are then added up.
            work += 2 * count(self.shapes.list_expert_tensors()) * self.size
        if not self.setup.is_sharded:
            return work + (self.layer * self.size if self.setup.accumulates else 0)
        reduction = self.layer * (self.size + FLOAT32_BYTES)
        if self.ranks > 1:
            reduction += self.layer * (self.size + FLOAT32_BYTES // self.ranks)
        return work + reduction

    def _embedding_work(self) -> int:
        """The embedding's gradient, the sum with the output layer's where they are tied, and the root's reduction."""
        work = self.head * self.size * (2 if self.shapes.is_tied else 1)
        if self.setup.is_sharded:
            work += self.root * FLOAT32_BYTES
        return work

    def _update_work(self) -> int:
        setup, matrices = self.setup, split_shapes(self.shapes)[0]
        if setup.optimizer == "muon" and matrices:
            return _count_muon_work(matrices, device=setup.device, ranks=self.ranks)
        if setup.optimizer == "adamw_8bit":
            largest = max(shard(shape, self.ranks) for shape in self.shapes.list_all_tensors())
            return 2 * largest * FLOAT32_BYTES
        return 0


def _count_muon_work(matrices: list[Shape], *, device: str, ranks: int) -> int:
    """Copies of all matrices of one shape in `training.engine.optim`: averages, their stack, the iteration and its squares."""
    work = 0
    for shape in set(matrices):
        at_once = min(matrices.count(shape), max(1, (1 << 28) // math.prod(shape)))
        numbers, squares = at_once * math.prod(shape), at_once * min(shape) ** 2
        size = FLOAT32_BYTES if device == "cpu" else 2
        share = 1 if ranks == 1 else 1 / ranks
        gathering = 2 * numbers * FLOAT32_BYTES if ranks == 1 else (2 / ranks + 3) * numbers * FLOAT32_BYTES
        work = max(work, int(gathering + share * (2 * numbers + 2 * squares) * size))
    return work


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetup:
    """What a plan depends on besides the model: names and values are those of the configuration's training section.

    Attributes:
        device: `cuda` or `cpu`.
        num_workers: Ranks that the model is sharded over.
        accumulates: Whether a rank may take more than one micro-batch in a step.
    """

    device: str
    num_workers: int
    accumulates: bool
    micro_batch_size: int
    max_seq_len: int
    param_dtype: str
    master_dtype: str
    activation_checkpointing: str
    gradient_sync: str
    loss_kernel: str
    loss_chunk_tokens: int
    optimizer: str
    experts_implementation: str = "grouped_mm"
    experts_parallel_size: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of the longest micro-batch."""
        return self.micro_batch_size * self.max_seq_len

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP wraps the model (`training.engine.model.make_trainable`)."""
        return self.num_workers > 1 or self.param_dtype != self.master_dtype


def read_setup(training: Any, *, device: str, num_workers: int | None = None) -> TrainingSetup:
    """Take the settings that matter from a training section.

    Args:
        training: `voc.config.training.TrainingConfig`, or anything with its names.
        device: `cuda` or `cpu`.
        num_workers: Ranks; None: those of the section.
    """
    ranks = training.num_workers if num_workers is None else num_workers
    at_once = training.micro_batch_size if training.batch_unit == "rows" else 1
    return TrainingSetup(
        device=device,
        num_workers=ranks,
        accumulates=training.global_batch_size > ranks * at_once,
        micro_batch_size=training.micro_batch_size,
        max_seq_len=training.max_seq_len,
        param_dtype=training.param_dtype,
        master_dtype=training.master_dtype,
        activation_checkpointing=training.activation_checkpointing,
        gradient_sync=training.gradient_sync,
        loss_kernel="chunked" if training.loss_kernel == "auto" else training.loss_kernel,
        loss_chunk_tokens=training.loss_chunk_tokens,
        optimizer=training.optimizer.name,
        experts_implementation=training.experts.implementation,
        experts_parallel_size=training.experts.parallel_size,
    )
