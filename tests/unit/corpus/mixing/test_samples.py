from __future__ import annotations

import numpy as np
import pytest

from corpus.mixing.samples import cut_into_shards


def test_shards_are_runs_of_steps_of_bounded_size() -> None:
    tokens = np.array([5, 5, 5, 30, 1, 1])
    assert cut_into_shards(tokens, max_tokens=10) == [(0, 2), (2, 3), (3, 4), (4, 6)]


@pytest.mark.parametrize("max_tokens", [1, 7, 10**9])
def test_every_step_is_in_one_shard(max_tokens: int) -> None:
    tokens = np.arange(1, 40)
    shards = cut_into_shards(tokens, max_tokens=max_tokens)
    assert [step for first, end in shards for step in range(first, end)] == list(range(39))
    assert all(tokens[first:end].sum() <= max_tokens or end - first == 1 for first, end in shards)
