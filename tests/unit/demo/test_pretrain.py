import pytest
import torch

from demo.comments import make_records, make_taxonomy
from demo.pretrain import BatchGradients, _pad, _rate, build_model, compute_loss_sum, pretrain
from demo.recipe import Recipe
from demo.tokenizer import train_tokenizer
from demo.world import make_world

WORLD = make_world(0)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(WORLD, make_records(0, 200, 1)[0], make_taxonomy(), 0)


def test_loss_is_the_weighted_sum_over_labelled_tokens(tokenizer):
    model = build_model(tokenizer, 0)
    ids = torch.tensor([[5, 6, 7, 8]])
    log_probabilities = model(input_ids=ids).logits.log_softmax(-1)[0]
    losses = [-log_probabilities[t, ids[0, t + 1]] for t in range(3)]
    loss = compute_loss_sum(model, ids, torch.tensor([[9.0, 0.0, 1.0, 3.0]]))
    torch.testing.assert_close(loss, losses[1] + 3 * losses[2])


def test_padding_changes_no_loss(tokenizer):
    model = build_model(tokenizer, 0)
    short, long = ([5, 6, 7], [0.0, 1.0, 1.0]), ([5, 6, 7, 8, 9], [0.0] * 5)
    together, alone = _pad([short, long], 0), _pad([short], 0)
    torch.testing.assert_close(compute_loss_sum(model, *together), compute_loss_sum(model, *alone))


@pytest.mark.parametrize(("rows", "threads"), [(5, 2), (3, 3), (1, 2)])
def test_threads_share_a_batch_and_change_no_gradient(tokenizer, rows, threads):
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(5, 50, (rows, 8), generator=generator)
    weights = torch.rand((rows, 8), generator=generator)
    models = [build_model(tokenizer, 0) for _ in range(2)]
    alone, shared = (
        BatchGradients(model, n).compute(ids, weights) for model, n in zip(models, (1, threads), strict=True)
    )
    assert shared == pytest.approx(alone, rel=1e-5)
    for left, right in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad, rtol=1e-4, atol=1e-6)


def test_the_rate_warms_up_stays_and_falls_to_two_percent():
    assert _rate(0, 1000) == pytest.approx(0.02)
    assert _rate(200, 1000) == _rate(499, 1000) == 1.0
    assert _rate(750, 1000) == pytest.approx(0.51)
    assert _rate(1000, 1000) == pytest.approx(0.02)


def test_pretraining_lowers_the_loss_and_says_how_far_it_is(tokenizer, capsys):
    torch.manual_seed(0)
    model = build_model(tokenizer, 0)
    pretrain(model, tokenizer, WORLD, Recipe(pretrain_steps=30, pretrain_batch_size=4, threads=1))
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("pretrain: 30/30")
    assert "tokens_per_s" in last
    assert float(last.split("loss ")[1].split(",")[0]) < 9.0
