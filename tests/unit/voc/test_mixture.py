from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voc.errors import MixtureError
from voc.mixture import draw_order, parse_mixture, plan_mixture, plan_token_mixture

NAMES = "abcd"
WEIGHTS = st.floats(1e-6, 1e6)
ANY_WEIGHT = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@st.composite
def mixtures(draw, weights=WEIGHTS):
    names = NAMES[: draw(st.integers(1, 4))]
    rows = {name: draw(st.integers(1, 30)) for name in names}
    return rows, {name: draw(weights) for name in names}, draw(st.integers(1, 200)), draw(st.integers(0, 9))


@given(mixtures(weights=ANY_WEIGHT))
def test_counts_sum_to_what_was_asked_whatever_the_weights(mixture) -> None:
    rows, weights, num_samples, seed = mixture
    plan = plan_mixture(rows, weights, num_samples=num_samples, seed=seed)
    assert sum(share.num_samples for share in plan.shares) == num_samples
    assert all(share.num_samples >= 0 for share in plan.shares)
    by_tokens = plan_token_mixture({n: [3] * c for n, c in rows.items()}, weights, num_samples=num_samples, seed=seed)
    assert sum(share.num_samples for share in by_tokens.shares) == num_samples


@given(mixtures())
def test_every_count_is_within_one_of_its_exact_share(mixture) -> None:
    rows, weights, num_samples, seed = mixture
    total = math.fsum(weights.values())
    for share in plan_mixture(rows, weights, num_samples=num_samples, seed=seed).shares:
        assert abs(share.num_samples - num_samples * weights[share.name] / total) < 1 + 1e-6


@given(mixtures(), st.floats(1e-3, 1e3))
def test_only_ratios_of_weights_matter(mixture, factor: float) -> None:
    rows, weights, num_samples, seed = mixture
    scaled = {name: weight * factor for name, weight in weights.items()}
    one, other = (plan_mixture(rows, w, num_samples=num_samples, seed=seed) for w in (weights, scaled))
    assert all(abs(a.num_samples - b.num_samples) <= 1 for a, b in zip(one.shares, other.shares, strict=True))


@given(mixtures())
def test_no_row_is_drawn_more_than_once_more_than_another(mixture) -> None:
    rows, weights, num_samples, seed = mixture
    plan = plan_mixture(rows, weights, num_samples=num_samples, seed=seed)
    order = draw_order(plan)
    assert len(order) == num_samples
    for index, share in enumerate(plan.shares):
        drawn = Counter(row for source, row in order if source == index)
        assert sum(drawn.values()) == share.num_samples
        counts = [drawn[row] for row in range(share.num_rows)]
        assert max(counts) - min(counts) <= 1
        assert set(drawn) <= set(range(share.num_rows))


@given(mixtures())
def test_the_same_plan_gives_the_same_order_also_after_a_round_trip(mixture) -> None:
    rows, weights, num_samples, seed = mixture
    plan = plan_mixture(rows, weights, num_samples=num_samples, seed=seed)
    again = parse_mixture(json.loads(json.dumps(plan.to_json())))
    assert again == plan
    assert draw_order(again) == draw_order(plan)


def test_another_seed_gives_another_order_of_the_same_counts() -> None:
    plans = [plan_mixture({"a": 50, "b": 50}, {"a": 1, "b": 1}, num_samples=40, seed=seed) for seed in (0, 1)]
    assert plans[0].shares == plans[1].shares
    assert draw_order(plans[0]) != draw_order(plans[1])


def test_three_quarters_of_1000_are_750() -> None:
    plan = plan_mixture({"c": 600, "g": 100}, {"c": 75, "g": 25}, num_samples=1000, seed=0)
    assert [(s.name, s.num_samples, s.epochs) for s in plan.shares] == [("c", 750, 1.25), ("g", 250, 2.5)]


@st.composite
def token_mixtures(draw):
    names = NAMES[: draw(st.integers(1, 4))]
    tokens = {name: draw(st.lists(st.integers(1, 500), min_size=1, max_size=20)) for name in names}
    return (
        tokens,
        {name: draw(st.floats(0.01, 100)) for name in names},
        draw(st.integers(1, 120)),
        draw(st.integers(0, 9)),
    )


@given(token_mixtures())
def test_token_shares_are_as_close_as_whole_rows_allow(mixture) -> None:
    tokens, weights, num_samples, seed = mixture
    plan = plan_token_mixture(tokens, weights, num_samples=num_samples, seed=seed)
    total = sum(share.num_tokens for share in plan.shares)
    longest = {name: max(rows) for name, rows in tokens.items()}
    for share in plan.shares:
        excess = share.num_tokens - share.weight * total
        assert -sum(longest[n] for n in weights if n != share.name) - 1e-6 <= excess <= longest[share.name] + 1e-6


@given(token_mixtures())
def test_the_planned_tokens_are_the_tokens_of_the_drawn_rows(mixture) -> None:
    tokens, weights, num_samples, seed = mixture
    plan = plan_token_mixture(tokens, weights, num_samples=num_samples, seed=seed)
    order = draw_order(plan)
    assert len(order) == num_samples
    for index, share in enumerate(plan.shares):
        assert share.num_tokens == sum(tokens[share.name][row] for source, row in order if source == index)


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf])
def test_an_unusable_weight_is_named(weight: float) -> None:
    with pytest.raises(MixtureError, match="weight of 'b'"):
        plan_mixture({"a": 1, "b": 1}, {"a": 1, "b": weight}, num_samples=4, seed=0)


@pytest.mark.parametrize("rows", [{"a": 1}, {"a": 1, "b": 0}])
def test_a_weighted_source_without_rows_is_named(rows: dict[str, int]) -> None:
    with pytest.raises(MixtureError, match="'b' has no usable rows"):
        plan_mixture(rows, {"a": 1, "b": 1}, num_samples=4, seed=0)
    with pytest.raises(MixtureError, match="'b' has no usable rows"):
        plan_token_mixture({n: [3] * c for n, c in rows.items()}, {"a": 1, "b": 1}, num_samples=4, seed=0)


def test_an_empty_mixture_and_no_samples_are_refused() -> None:
    with pytest.raises(MixtureError, match="no sources"):
        plan_mixture({}, {}, num_samples=4, seed=0)
    with pytest.raises(MixtureError, match="0 samples"):
        plan_mixture({"a": 1}, {"a": 1}, num_samples=0, seed=0)
