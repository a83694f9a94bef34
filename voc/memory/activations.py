"""What a forward pass keeps for its backward pass, in bytes, from the shapes of a model.

The lists follow transformers' model code with `training.engine.attention`: norms compute in float32 and keep their input in
it, rotations keep nothing of their own, attention keeps queries, keys, values, its result and a float32 log-sum per head,
SwiGLU keeps gate, activation, the other half and their product. A test compares them with what autograd saves, byte for byte.

Shapes: T tokens of a pass, E hidden size, F inner width, H query heads, K key-value heads, D numbers of a head, V vocabulary,
S = T x experts per token.

Source: the counting is that of Korthikanti et al., arXiv:2205.05198, for these layers.
"""

from __future__ import annotations

from voc.models.shapes import ModelShapes

FLOAT32_BYTES = 4
INDEX_BYTES = 8


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
