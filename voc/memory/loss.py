"""Bytes of logits and of the loss's gradients, per kernel of `training.engine.linear_loss`.

Shapes: N places, E hidden size, V vocabulary, C places of a chunk.

Source: the kernels themselves; Liger's from `liger_kernel.ops.fused_linear_cross_entropy`.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class LossBytes:
    """What the loss holds at most in its forward and in its backward pass."""

    forward: int
    backward: int


def count_loss(*, places: int, hidden: int, vocab: int, size: int, kernel: str, chunk: int) -> LossBytes:
    """Return the bytes of one loss.

    Args:
        places: N.
        hidden: E.
        vocab: V.
        size: Bytes of a number in the compute dtype.
        kernel: `chunked`, `liger` or `plain`.
        chunk: C, of the chunked kernel.
    """
    states, weight = places * hidden * size, vocab * hidden
    if kernel == "plain":
        logits = places * vocab
        # Logits, the same in float32, their log-softmax; backward its gradient and that of the logits.
        forward = logits * (2 * FLOAT32_BYTES + (size if size != FLOAT32_BYTES else 0))
        return LossBytes(states + forward, states + 3 * logits * FLOAT32_BYTES)
    # The chosen states, their gradient and the weight's.
    if kernel == "liger":
        rows = _liger_chunk(places, hidden, vocab)
        forward = 2 * states + weight * (2 * size + FLOAT32_BYTES) + rows * vocab * size
        return LossBytes(forward, 3 * states + 2 * weight * size)  # backward both gradients again, scaled
    # A chunk's logits, which become its errors in place; those in the compute dtype, and their product, where it is another.
    rows = min(chunk, places) * vocab
    narrow = (rows + weight) * size if size != FLOAT32_BYTES else 0
    forward = 2 * states + weight * FLOAT32_BYTES + rows * FLOAT32_BYTES + narrow
    return LossBytes(forward, 2 * states + weight * size)


def _liger_chunk(places: int, hidden: int, vocab: int) -> int:
    """Liger takes so many places at once that a chunk's logits are about as large as the hidden states."""
    chunks = -(-vocab // hidden)
    rows = 1
    while rows < -(-places // chunks):
        rows *= 2
    return min(rows, places)
