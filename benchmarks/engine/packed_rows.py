"""Packed rows with the study's length distribution, of random tokens: what a step looks like where no tokenizer is at hand.

Lengths: the study corpus, three comments to one general row, through Qwen's vocabulary and chat template (19,321 rows, measured
with `corpus` on 2026-11-25; mean 205 tokens, 111 of them with a loss).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.engine.batches import IGNORE_INDEX, Document, pack_first_fit_decreasing

LENGTH_QUANTILES = (
    24, 62, 83, 113, 128, 135, 141, 147, 154, 163, 178, 201, 217, 230, 243, 259, 285, 314, 349, 405, 1018,
)  # fmt: skip
LEARNED_RATIO = 0.54
_DOCUMENTS_AT_ONCE = 4096


def draw_rows(row_len: int, vocab_size: int, seed: int) -> Iterator[list[Document]]:
    """Yield full rows of documents, without end.

    Args:
        row_len: Tokens of a row; longer documents are left out.
        vocab_size: Tokens are drawn evenly from it.
        seed: Seed of lengths and tokens.
    """
    draw = np.random.default_rng(seed)
    places = np.linspace(0, 1, len(LENGTH_QUANTILES))
    while True:
        lengths = np.interp(draw.random(_DOCUMENTS_AT_ONCE), places, LENGTH_QUANTILES).astype(int)
        lengths = lengths[lengths <= row_len]
        for row in pack_first_fit_decreasing(lengths.tolist(), row_len):
            if sum(lengths[row]) > row_len - LENGTH_QUANTILES[0]:  # the last rows of a heap stay half empty
                yield [_make_document(draw, int(lengths[i]), vocab_size) for i in row]


def _make_document(draw: np.random.Generator, length: int, vocab_size: int) -> Document:
    ids = draw.integers(0, vocab_size, length, dtype=np.int32)
    is_learned = np.arange(length) >= length - round(LEARNED_RATIO * length)
    return Document(ids, np.where(is_learned, ids, IGNORE_INDEX))
