"""The parts of a memory plan, in bytes: what stays from step to step, what a forward pass keeps, and what the loss holds.

*State*: weights, gradients and the optimizer's state, whole or sharded. *Activations*: the lists follow transformers' model code
with `training.engine.attention`: norms compute in float32 and keep their input in it, rotations keep nothing of their own,
attention keeps queries, keys, values, its result and a float32 log-sum per head, SwiGLU keeps gate, activation, the other half
and their product. A test compares them with what autograd saves, byte for byte. *Loss*: logits and gradients, per kernel of
`training.engine.linear_loss`.

Shapes: T tokens of a micro-batch, E hidden size, F inner width, H query heads, K key-value heads, D numbers of a head,
V vocabulary, S = T x experts per token; of the loss N target positions and C positions of a chunk.

Source: FSDP2 shards the first dimension of each tensor and pads it (`torch.distributed.fsdp`); 8-bit moments have one
float32 scale per 256 numbers, and tensors below 4,096 numbers keep whole ones (`torchao.optim`); the counting of activations is
that of Korthikanti et al., arXiv:2205.05198, for these layers; the loss, the kernels themselves, Liger's from
`liger_kernel.ops.fused_linear_cross_entropy`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from voc.models.shapes import ModelShapes, Shape

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
BLOCK_NUMBERS = 256
LEAST_QUANTISED = 4096
_SCALE_BYTES = 4
_MAP_BYTES = 256 * 4
FLOAT32_BYTES = 4
INDEX_BYTES = 8


@dataclass(frozen=True, slots=True)
class BytesPerParameter:
    """What one parameter costs over all GPUs together: its place in each of the three kinds of state."""

    weights: float
    gradients: float
    optimizer: float

    def __str__(self) -> str:
        total = self.weights + self.gradients + self.optimizer
        return (
            f"{total:.3g} bytes per parameter: weights {self.weights:.3g}, gradients {self.gradients:.3g}, "
            f"optimizer {self.optimizer:.3g}"
        )


def shard(shape: Shape, ranks: int) -> int:
    """Return the numbers of a tensor that a rank holds; the first ranks have the most."""
    return math.ceil(shape[0] / ranks) * math.prod(shape[1:])


def count_optimizer(matrices: Iterable[Shape], rest: Iterable[Shape], *, name: str, size: int, ranks: int = 1) -> int:
    """Return the bytes of the optimizer's state on one rank.

    Args:
        matrices: Shapes of the two-dimensional weights between layers.
        rest: Shapes of the other parameters.
        name: `adamw`, `adamw_8bit` or `muon`.
        size: Bytes of a number of the master weights.
        ranks: Ranks that share the state.
    """
    if name == "muon":
        return sum(shard(s, ranks) * size for s in matrices) + sum(2 * shard(s, ranks) * size for s in rest)
    numbers = [shard(shape, ranks) for shape in [*matrices, *rest]]
    if name == "adamw":
        return 2 * size * sum(numbers)
    return 2 * sum(_count_8bit(n, size) for n in numbers)


def _count_8bit(numbers: int, size: int) -> int:
    if numbers < LEAST_QUANTISED or numbers % BLOCK_NUMBERS:
        return numbers * size
    return numbers + numbers // BLOCK_NUMBERS * _SCALE_BYTES + _MAP_BYTES


def split_shapes(shapes: ModelShapes) -> tuple[list[Shape], list[Shape]]:
    """Split the parameters of a model as `training.engine.optim` does: matrices between layers, and the rest."""
    outer: Shape = (shapes.vocab_size, shapes.hidden_size)
    every = shapes.list_all_tensors()
    matrices: list[Shape] = [shape for shape in every if len(shape) == 2 and shape != outer]
    return matrices, [shape for shape in every if len(shape) != 2 or shape == outer]


def measure_precision(
    matrices: Iterable[Shape], rest: Iterable[Shape], *, optimizer: str, master_dtype: str
) -> BytesPerParameter:
    """Return the bytes per parameter of a precision and an update rule."""
    matrices, rest = list(matrices), list(rest)
    size = DTYPE_BYTES[master_dtype]
    numbers = sum(math.prod(shape) for shape in [*matrices, *rest])
    return BytesPerParameter(size, size, count_optimizer(matrices, rest, name=optimizer, size=size) / max(numbers, 1))


def count_kept(shapes: ModelShapes, tokens: int, size: int, *, mode: str, device: str, with_experts: bool) -> int:
    """Return the bytes that one decoder layer keeps from its forward pass.

    Args:
        shapes: The model.
        tokens: T.
        size: Bytes of a number in the compute dtype.
        mode: `none`, `selective` or `full` recomputation.
        device: `cuda` or `cpu`.
        with_experts: Whether it is a layer with experts.
    """
    if mode == "none":
        return _count_saved(shapes, tokens, size, device=device, with_experts=with_experts)
    entry = tokens * shapes.hidden_size * size
    if mode == "full":
        return entry
    return entry + _count_products(shapes, tokens, size, with_experts=with_experts)


def count_recomputed(shapes: ModelShapes, tokens: int, size: int, *, mode: str, device: str, with_experts: bool) -> int:
    """Return the bytes that the backward pass of one layer makes again, beside what was kept."""
    if mode == "none":
        return 0
    saved = _count_saved(shapes, tokens, size, device=device, with_experts=with_experts)
    if mode == "full":
        return saved - tokens * shapes.hidden_size * size if size == FLOAT32_BYTES else saved
    # Of the kept products, those that autograd wants too are not there twice.
    shared = tokens * (shapes.num_heads * shapes.head_dim) * size + _count_log_sums(shapes, tokens)
    inner = shapes.experts_per_token * 2 * shapes.expert_size if with_experts else 2 * shapes.intermediate_size
    return saved - shared - tokens * inner * size


def count_backward_work(shapes: ModelShapes, tokens: int, size: int, *, with_experts: bool) -> int:
    """Return the bytes of gradients of activations that are alive at once in one layer's backward pass."""
    inner = shapes.experts_per_token * shapes.expert_size if with_experts else shapes.intermediate_size
    feed_forward = tokens * (3 * inner * size + 2 * shapes.hidden_size * size)
    norms = tokens * shapes.hidden_size * (size + 4 * FLOAT32_BYTES)
    return max(feed_forward, norms)


def count_root(shapes: ModelShapes, tokens: int, size: int) -> int:
    """Return the bytes that are kept outside the layers: the last norm, the rotations and the positions."""
    norm = tokens * shapes.hidden_size * (FLOAT32_BYTES + size) + tokens * FLOAT32_BYTES
    return norm + 2 * tokens * shapes.head_dim * size + 2 * tokens * INDEX_BYTES


def _count_saved(shapes: ModelShapes, tokens: int, size: int, *, device: str, with_experts: bool) -> int:
    """Return what autograd saves in one layer when nothing is recomputed."""
    feed_forward = (
        _count_experts(shapes, tokens, size) if with_experts else tokens * 4 * shapes.intermediate_size * size
    )
    norms = 2 * (_count_norm(tokens * shapes.hidden_size, tokens, size) + tokens * shapes.hidden_size * size)
    return norms + _count_attention(shapes, tokens, size, device=device) + feed_forward


def _count_norm(numbers: int, rows: int, size: int) -> int:
    """Input in float32, its inverse root mean square per row, the normalised input."""
    return numbers * (FLOAT32_BYTES + size) + rows * FLOAT32_BYTES


def _count_attention(shapes: ModelShapes, tokens: int, size: int, *, device: str) -> int:
    queries, keys = tokens * shapes.num_heads * shapes.head_dim, tokens * shapes.num_kv_heads * shapes.head_dim
    kept = 0
    if shapes.has_head_norms:
        kept += _count_norm(queries, tokens * shapes.num_heads, size) + _count_norm(
            keys, tokens * shapes.num_kv_heads, size
        )
    # On CUDA the kernel gets as many key-value heads as query heads. Elsewhere documents are attended to one by one, so
    # their results are there again end to end.
    keys_values = 2 * (queries if device == "cuda" else keys)
    results = queries if device == "cuda" else 2 * queries
    return kept + (queries + keys_values + results) * size + _count_log_sums(shapes, tokens)


def _count_log_sums(shapes: ModelShapes, tokens: int) -> int:
    return tokens * shapes.num_heads * FLOAT32_BYTES


def _count_experts(shapes: ModelShapes, tokens: int, size: int) -> int:
    pairs = tokens * shapes.experts_per_token
    # Scores of the router in float32, the sum of the chosen ones, chosen scores and experts.
    router = tokens * (shapes.num_experts + 1) * FLOAT32_BYTES + pairs * (FLOAT32_BYTES + INDEX_BYTES)
    # Copies of hidden states by expert, gate and other half, activation, product, result; weights and three permutations.
    experts = pairs * (2 * shapes.hidden_size + 4 * shapes.expert_size + 1) * size + 3 * pairs * INDEX_BYTES
    experts += shapes.num_experts * FLOAT32_BYTES  # where each expert begins
    return router + experts


def _count_products(shapes: ModelShapes, tokens: int, size: int, *, with_experts: bool) -> int:
    """Return what `selective` keeps: results of matrix products and of attention."""
    attention = (2 * shapes.num_heads + 2 * shapes.num_kv_heads) * shapes.head_dim + shapes.hidden_size
    log_sums = _count_log_sums(shapes, tokens)
    if not with_experts:
        inner = 2 * shapes.intermediate_size + shapes.hidden_size
        return tokens * (attention + inner) * size + log_sums
    inner = shapes.experts_per_token * (2 * shapes.expert_size + shapes.hidden_size) + shapes.num_experts
    return tokens * (attention + inner) * size + log_sums


@dataclass(frozen=True, slots=True)
class LossBytes:
    """What the loss holds at most in its forward and in its backward pass."""

    forward: int
    backward: int


def count_loss(*, target_positions: int, hidden: int, vocab: int, size: int, kernel: str, chunk: int) -> LossBytes:
    """Return the bytes of one loss.

    Args:
        target_positions: N.
        hidden: E.
        vocab: V.
        size: Bytes of a number in the compute dtype.
        kernel: `chunked`, `liger` or `plain`.
        chunk: C, of the chunked kernel.
    """
    states, weight = target_positions * hidden * size, vocab * hidden
    if kernel == "plain":
        logits = target_positions * vocab
        # Logits, the same in float32, their log-softmax; backward its gradient and that of the logits.
        forward = logits * (2 * FLOAT32_BYTES + (size if size != FLOAT32_BYTES else 0))
        return LossBytes(states + forward, states + 3 * logits * FLOAT32_BYTES)
    # The chosen states, their gradient and the weight's.
    if kernel == "liger":
        rows = _liger_chunk(target_positions, hidden, vocab)
        forward = 2 * states + weight * (2 * size + FLOAT32_BYTES) + rows * vocab * size
        return LossBytes(forward, 3 * states + 2 * weight * size)  # backward both gradients again, scaled
    # A chunk's logits, which become its errors in place; those in the compute dtype, and their product, where it is another.
    rows = min(chunk, target_positions) * vocab
    narrow = (rows + weight) * size if size != FLOAT32_BYTES else 0
    forward = 2 * states + weight * FLOAT32_BYTES + rows * FLOAT32_BYTES + narrow
    return LossBytes(forward, 2 * states + weight * size)


def _liger_chunk(target_positions: int, hidden: int, vocab: int) -> int:
    """Liger takes so many positions at once that a chunk's logits are about as large as the hidden states."""
    chunks = -(-vocab // hidden)
    rows = 1
    while rows < -(-target_positions // chunks):
        rows *= 2
    return min(rows, target_positions)
