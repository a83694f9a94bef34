import pytest
import torch

from demo.comments import make_records, make_taxonomy
from demo.pretrain import _pad, _rate, build_model, compute_loss, pretrain
from demo.recipe import Recipe
from demo.tokenizer import train_tokenizer
from demo.world import make_world

WORLD = make_world(0)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(WORLD, make_records(0, 200, 1)[0], make_taxonomy(), 0)


def test_loss_is_the_weighted_mean_over_labelled_tokens(tokenizer):
    model = build_model(tokenizer, 0)
    ids = torch.tensor([[5, 6, 7, 8]])
    log_probabilities = model(input_ids=ids).logits.log_softmax(-1)[0]
    losses = [-log_probabilities[t, ids[0, t + 1]] for t in range(3)]
    loss = compute_loss(model, ids, torch.tensor([[9.0, 0.0, 1.0, 3.0]]))
    torch.testing.assert_close(loss, (losses[1] + 3 * losses[2]) / 4)


def test_padding_changes_no_loss(tokenizer):
    model = build_model(tokenizer, 0)
    short, long = ([5, 6, 7], [0.0, 1.0, 1.0]), ([5, 6, 7, 8, 9], [0.0] * 5)
    torch.testing.assert_close(compute_loss(model, *_pad([short, long], 0)), compute_loss(model, *_pad([short], 0)))


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
