from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.engine.batches import IGNORE_INDEX, Batch, Document, build_batch
from training.engine.model import compute_loss_sum, read_model
from training.engine.prefixes import Group, group_by_prefix, lay_out_segments
from voc.config.training import OptimizerConfig, TrainingConfig

ARRAYS = st.lists(st.lists(st.integers(0, 2), max_size=7).map(lambda ids: np.array(ids, dtype=np.int32)), max_size=6)


def make_document(stem: list[int], rest: list[int], learned: int) -> Document:
    ids = np.array(stem + rest, dtype=np.int32)
    return Document(ids, np.where(np.arange(len(ids)) >= len(ids) - learned, ids, IGNORE_INDEX))


def make_documents() -> list[Document]:
    """Two prompts of 20 and 30 tokens with three and two documents, and one that shares nothing."""
    one, two = list(range(5, 25)), list(range(5, 8)) + list(range(100, 127))
    return [
        make_document(one, [200, 201, 202, 203], 2),
        make_document(two, [210, 211], 1),
        make_document(list(range(150, 159)), [], 8),
        make_document(one, [220, 221, 222, 223, 224, 225], 3),
        make_document(two, [230, 231, 232], 2),
        make_document(one, [200, 240], 1),
    ]


def count_saved(groups: list[Group]) -> int:
    return sum(group.stem_tokens * (len(group.members) - 1) for group in groups)


def best_saving(ordered: list[list[int]], min_tokens: int) -> int:
    """Try all ways to cut an ordered list into stretches."""
    best = 0
    for cuts in product([False, True], repeat=max(0, len(ordered) - 1)):
        ends = [i + 1 for i, is_cut in enumerate(cuts) if is_cut] + [len(ordered)]
        saved = 0
        for start, end in zip([0, *ends], ends, strict=False):
            columns = list(zip(*ordered[start:end], strict=False))
            common = next((i for i, column in enumerate(columns) if len(set(column)) > 1), len(columns))
            saved += common * (end - start - 1) if common >= min_tokens else 0
        best = max(best, saved)
    return best


@given(ARRAYS, st.integers(1, 3))
def test_of_all_stretches_in_lexicographic_order_the_best_are_taken(
    prefixes: list[np.ndarray], min_tokens: int
) -> None:
    groups = group_by_prefix(prefixes, min_tokens)
    assert sorted(i for group in groups for i in group.members) == list(range(len(prefixes)))
    for group in groups:
        stems = {prefixes[i][: group.stem_tokens].tobytes() for i in group.members}
        assert len(stems) == 1
        assert all(len(prefixes[i]) >= group.stem_tokens for i in group.members)
        assert group.stem_tokens == 0 or (group.stem_tokens >= min_tokens and len(group.members) > 1)
    assert count_saved(groups) == best_saving(sorted(ids.tolist() for ids in prefixes), min_tokens)


def test_a_stem_stands_before_what_continues_it() -> None:
    segments = lay_out_segments([9, 5, 8], [Group(4, (0, 2)), Group(0, (1,))])
    assert [(s.document, s.start, s.stop, s.stem, s.is_stem) for s in segments] == [
        (0, 0, 4, -1, True),
        (0, 4, 9, 0, False),
        (2, 4, 8, 0, False),
        (1, 0, 5, -1, False),
    ]


def test_only_what_predicts_nothing_that_is_learned_is_shared() -> None:
    learned_from = make_document(list(range(20)), [], 5)
    assert learned_from.shareable.tolist() == list(range(14))  # place 14 predicts the first learned token
    assert len(make_document([1, 2, 3], [], 3).shareable) == 0
    assert len(make_document([1, 2, 3], [], 0).shareable) == 2  # one token is left to be the document's own


def test_a_shared_row_has_each_stem_once_and_all_targets() -> None:
    documents = make_documents()
    whole, shared = (build_batch(documents, pad_id=0, shares_prefixes=flag) for flag in (False, True))
    assert whole.shared is None
    assert shared.num_tokens == whole.num_tokens - 2 * 20 - 30
    assert shared.shared is not None
    assert shared.shared.stems == (-1, 0, 0, 0, -1, 4, 4, -1)
    assert shared.shared.key_boundaries.diff().tolist() == [20, 24, 26, 22, 30, 32, 33, 9]
    assert shared.longest == whole.longest
    assert sorted(shared.targets.tolist()) == sorted(whole.targets.tolist())

    def pairs(batch: Batch) -> list[tuple[int, ...]]:
        ids, positions = batch.input_ids[0], batch.position_ids[0]
        return sorted(
            (int(ids[p]), int(positions[p]), int(t)) for p, t in zip(batch.places, batch.targets, strict=True)
        )

    assert pairs(shared) == pairs(whole)


@pytest.mark.parametrize("padded_length", [None, 160])
def test_a_shared_row_has_the_loss_and_the_gradients_of_the_whole_documents(
    tiny_base: Path, padded_length: int | None
) -> None:
    model = read_model(tiny_base).train()
    documents, found = make_documents(), {}
    for shares in (False, True):
        model.zero_grad()
        batch = build_batch(documents, pad_id=0, padded_length=padded_length, shares_prefixes=shares)
        loss = compute_loss_sum(model, batch)
        loss.backward()
        found[shares] = loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}
    assert found[True][0] == pytest.approx(found[False][0], rel=1e-6)
    for name, gradient in found[True][1].items():
        torch.testing.assert_close(gradient, found[False][1][name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_document_that_loses_its_stem_has_another_loss(tiny_base: Path) -> None:
    """Fails when the stem is not attended to, so that the test above cannot pass by accident."""
    model, documents = read_model(tiny_base), make_documents()[:1]
    cut = [Document(d.input_ids[20:], d.labels[20:]) for d in documents]
    with torch.no_grad():
        losses = [compute_loss_sum(model, build_batch(part, pad_id=0)).item() for part in (documents, cut)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.mark.gpu
def test_the_variable_length_kernel_agrees_with_the_cpu(tiny_base: Path) -> None:
    documents = make_documents()
    losses = []
    for device, shares in (("cpu", False), ("cuda", False), ("cuda", True)):
        model = read_model(tiny_base).to(device, torch.float32 if device == "cpu" else torch.bfloat16)
        batch = build_batch(documents, pad_id=0, shares_prefixes=shares).to(torch.device(device))
        with torch.no_grad():
            losses.append(compute_loss_sum(model, batch).item())
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)
    assert losses[2] == pytest.approx(losses[1], rel=5e-3)


def make_settings(**changes: object) -> TrainingConfig:
    fixed = {
        "max_steps": 1,
        "global_batch_size": 1,
        "max_seq_len": 64,
        "optimizer": OptimizerConfig(learning_rate=1e-3),
    }
    return TrainingConfig(**fixed | changes)


@pytest.mark.parametrize(
    ("changes", "shares"),
    [
        ({}, True),
        ({"shared_prefixes": "off"}, False),
        ({"gpus_per_worker": 1}, False),
        ({"gpus_per_worker": 1, "shared_prefixes": "on"}, True),
        ({"compile": "layers"}, False),
        ({"experts": {"router_aux_loss_weight": 0.1}}, False),
    ],
)
def test_what_auto_stands_for(changes: dict, shares: bool) -> None:
    assert make_settings(**changes).shares_prefixes is shares


@pytest.mark.parametrize("changes", [{"compile": "layers"}, {"experts": {"router_aux_loss_weight": 0.1}}])
def test_sharing_that_cannot_be_had_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="shared_prefixes on"):
        make_settings(shared_prefixes="on", **changes)
