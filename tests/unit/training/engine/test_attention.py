from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from training.engine.attention import attend_packed
from voc.errors import ModelError


def make_heads(lengths: list[int], key_heads: int = 2) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    total = sum(lengths)
    heads = [torch.randn(1, n, total, 8, requires_grad=True) for n in (4, key_heads, key_heads)]
    return *heads, torch.tensor([0, *lengths]).cumsum(0).int()


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_documents_end_to_end_attend_as_under_a_block_mask(key_heads: int) -> None:
    lengths = [5, 1, 9, 3]
    query, key, value, boundaries = make_heads(lengths, key_heads)
    attended, weights = attend_packed(
        torch.nn.Module(), query, key, value, None, cu_seq_lens_q=boundaries, max_length_q=9, scaling=0.5
    )
    mask = torch.block_diag(*(torch.ones(n, n).tril() for n in lengths)).bool()
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.5, enable_gqa=True)
    assert weights is None
    torch.testing.assert_close(attended, expected.transpose(1, 2))
    probe = torch.randn_like(attended)
    found = torch.autograd.grad((attended * probe).sum(), (query, key, value))
    wanted = torch.autograd.grad((expected.transpose(1, 2) * probe).sum(), (query, key, value))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"sliding_window": 4}])
def test_what_the_kernels_do_not_do_is_refused(options: dict) -> None:
    query, key, value, boundaries = make_heads([5, 9])
    with pytest.raises(ModelError, match="Expected"):
        attend_packed(torch.nn.Module(), query, key, value, None, cu_seq_lens_q=boundaries, max_length_q=9, **options)
