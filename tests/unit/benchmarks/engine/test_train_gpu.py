from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from benchmarks.engine.packed_rows import LEARNED_RATIO, draw_rows
from benchmarks.engine.train_gpu import count_operations, read_shape
from training.engine.batches import IGNORE_INDEX, build_batch

SIZES = {
    "vocab_size": 100, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 4,
}  # fmt: skip
ATTENTION = 8 * 8 + 2 * 8 * 4 + 8 * 8  # query, key and value, output
NORMS = 2 * 8 + 2 * 4


def make_batches() -> tuple[list, int, int, int]:
    rows = [row for row, _ in zip(draw_rows(1024, 100, seed=1), range(2), strict=False)]
    batches = [build_batch(row, pad_id=0) for row in rows]
    lengths = [len(document) for row in rows for document in row]
    targets = sum(document.num_targets for row in rows for document in row)
    return batches, sum(lengths), sum(n * n for n in lengths), targets


def test_operations_are_six_per_parameter_and_twelve_per_attended_pair() -> None:
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES, tie_word_embeddings=False))
    batches, tokens, attended, targets = make_batches()
    inner = 2 * (ATTENTION + 3 * 8 * 16 + NORMS) + 8
    fixed = 6 * inner * tokens + 12 * 2 * 2 * 4 * attended
    learned_head, whole_head = count_operations(model, batches)
    assert learned_head == pytest.approx(fixed + 6 * 800 * targets)
    assert whole_head == pytest.approx(fixed + 6 * 800 * tokens)


def test_of_experts_those_count_that_a_token_passes() -> None:
    experts = {"num_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 6}
    with torch.device("meta"):
        model = Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **experts, tie_word_embeddings=False))
    batches, tokens, attended, targets = make_batches()
    inner = 2 * (ATTENTION + 3 * 8 * 6 + 4 * 8 + NORMS) + 8
    assert count_operations(model, batches)[0] == pytest.approx(
        6 * inner * tokens + 12 * 2 * 2 * 4 * attended + 6 * 800 * targets
    )


def test_rows_are_nearly_full_and_half_of_their_tokens_are_learned() -> None:
    rows = list(itertools.islice(draw_rows(2048, 500, seed=0), 40))
    lengths = [sum(len(document) for document in row) for row in rows]
    assert max(lengths) <= 2048
    assert np.mean(lengths) > 0.98 * 2048
    learned = sum(int((document.labels != IGNORE_INDEX).sum()) for row in rows for document in row)
    assert learned / sum(lengths) == pytest.approx(LEARNED_RATIO, abs=0.02)


def test_an_unknown_shape_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*qwen3-8b"):
        read_shape("qwen9", None)
    with pytest.raises(ValueError, match="qwen3-8b has 36"):
        read_shape("qwen3-8b", 99)
    assert read_shape("qwen3-30b-a3b", 4).num_hidden_layers == 4
