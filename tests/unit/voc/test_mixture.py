from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voc.config.arms import SourceWeight
from voc.errors import MixtureError
from voc.mixture import (
    MixturePlan,
    Stratum,
    StratumShare,
    apportion,
    compute_shares,
    describe_odd_sums,
    parse_mixture,
    plan_mixture,
)

ANY_WEIGHT = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@dataclass(frozen=True)
class Weighted:
    """Weights as the arithmetic sees them, without what the configuration refuses before."""

    name: str
    weight: float
    categories: dict[str, float] = field(default_factory=dict)


@st.composite
def mixtures(draw, weights=ANY_WEIGHT, max_rows=30):
    sources, num_rows = [], {}
    for name in "abcd"[: draw(st.integers(1, 4))]:
        categories = {category: draw(weights) for category in "xyz"[: draw(st.integers(0, 3))]}
        sources.append(Weighted(name, draw(weights), categories))
        num_rows |= {Stratum(name, category): draw(st.integers(1, max_rows)) for category in categories or (None,)}
    return num_rows, sources, draw(st.integers(1, 300)), draw(st.integers(0, 9))


def plan(mixture) -> MixturePlan:
    num_rows, sources, num_samples, seed = mixture
    return plan_mixture(num_rows, sources, num_samples=num_samples, seed=seed)


@given(mixtures())
def test_sources_sum_to_what_was_asked_and_each_is_less_than_a_row_from_its_share(mixture) -> None:
    _, sources, num_samples, _ = mixture
    counts = Counter({source.name: 0 for source in sources})
    for share in plan(mixture).shares:
        counts[share.name] += share.num_samples
    assert sum(counts.values()) == num_samples
    total = sum(Fraction(source.weight) for source in sources)
    for source in sources:
        assert abs(counts[source.name] - num_samples * Fraction(source.weight) / total) < 1


@given(mixtures())
def test_categories_sum_to_their_source_and_each_is_less_than_a_row_from_its_share_of_it(mixture) -> None:
    _, sources, _, _ = mixture
    shares = plan(mixture).shares
    for source in sources:
        parts = {share.category: share.num_samples for share in shares if share.name == source.name}
        assert all(count >= 0 for count in parts.values())
        total = sum(map(Fraction, source.categories.values()))
        for category, weight in source.categories.items():
            assert abs(parts[category] - sum(parts.values()) * Fraction(weight) / total) < 1


@given(mixtures(), st.integers(0, 10**15))
def test_any_number_of_units_is_split_without_rest(mixture, total: int) -> None:
    _, sources, _, _ = mixture
    parts = apportion(sources, total)
    assert sum(parts.values()) == total
    assert list(parts) == list(compute_shares(sources))
    assert sum(compute_shares(sources).values()) == 1


@given(mixtures(weights=st.floats(1e-6, 1e6)), st.sampled_from([0.25, 0.5, 2.0, 1024.0]))
def test_only_ratios_of_weights_matter(mixture, factor: float) -> None:
    num_rows, sources, num_samples, seed = mixture
    scaled = [Weighted(s.name, s.weight * factor, {c: w * factor for c, w in s.categories.items()}) for s in sources]
    assert plan(mixture) == plan((num_rows, scaled, num_samples, seed))


@given(mixtures(), st.randoms())
def test_the_order_of_sources_does_not_change_what_they_give(mixture, random) -> None:
    num_rows, sources, num_samples, seed = mixture
    shuffled = random.sample(sources, len(sources))
    assert set(plan(mixture).shares) == set(plan((num_rows, shuffled, num_samples, seed)).shares)


@given(mixtures())
def test_the_figures_of_a_share_follow_from_its_counts(mixture) -> None:
    for share in plan(mixture).shares:
        times = Counter(draw % share.num_rows for draw in range(share.num_samples))
        assert share.max_repeats == max(times.values(), default=0)
        assert share.unused_rows == share.num_rows - len(times)
        assert share.epochs == share.num_samples / share.num_rows
        assert (share.sampling == "over") == (share.max_repeats > 1)
        assert (share.sampling == "under") == (share.unused_rows > 0)


@given(mixtures())
def test_a_plan_survives_json(mixture) -> None:
    planned = plan(mixture)
    assert parse_mixture(json.loads(json.dumps(planned.to_json()))) == planned


def test_tokens_and_swaps_survive_json() -> None:
    share = StratumShare("a", "x", 1.0, 5, 7, 70, 30, -1, ((0, 3), (1, 4)))
    planned = MixturePlan("assistant_tokens", 7, 3, (share,))
    assert parse_mixture(json.loads(json.dumps(planned.to_json()))) == planned


def test_three_quarters_customer_and_a_quarter_general_in_two_categories() -> None:
    num_rows = {Stratum("c"): 600, Stratum("g", "code"): 100, Stratum("g", "math"): 200, Stratum("g", "chat"): 9}
    sources = [
        SourceWeight(name="c", weight=75),
        SourceWeight(name="g", weight=25, categories={"code": 0.8, "math": 0.2}),
    ]
    shares = plan_mixture(num_rows, sources, num_samples=1000, seed=0).shares
    assert [
        (str(s.stratum), s.weight, s.num_samples, s.epochs, s.max_repeats, s.unused_rows, s.sampling) for s in shares
    ] == [
        ("c", 0.75, 750, 1.25, 2, 0, "over"),
        ("g/code", 0.2, 200, 2.0, 2, 0, "over"),
        ("g/math", 0.05, 50, 0.25, 1, 150, "under"),
    ]


def test_a_source_without_weights_of_categories_is_one_stratum_with_all_its_rows() -> None:
    num_rows = {Stratum("g", "code"): 3, Stratum("g", "math"): 4}
    (share,) = plan((num_rows, [Weighted("g", 1)], 7, 0)).shares
    assert (share.stratum, share.num_rows, share.sampling) == (Stratum("g"), 7, "once")


def test_fewer_rows_than_the_share_is_no_error_but_reported() -> None:
    (share,) = plan(({Stratum("a"): 3}, [Weighted("a", 1)], 100, 0)).shares
    assert (share.sampling, share.max_repeats) == ("over", 34)


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, -math.inf])
def test_an_unusable_weight_is_named_at_both_levels(weight: float) -> None:
    num_rows = {Stratum("a"): 1, Stratum("b", "x"): 1}
    with pytest.raises(MixtureError, match=r"the weight of 'b' is .*the weight of 'b/x' is"):
        plan((num_rows, [Weighted("a", 1), Weighted("b", weight, {"x": weight})], 4, 0))


@pytest.mark.parametrize("num_rows", [{}, {Stratum("b"): 0}, {Stratum("b", "x"): 0}])
def test_a_weighted_source_without_rows_is_named(num_rows: dict[Stratum, int]) -> None:
    num_rows |= {Stratum("a"): 1}
    with pytest.raises(MixtureError, match="'b' has no usable rows"):
        plan((num_rows, [Weighted("a", 1), Weighted("b", 1)], 4, 0))


def test_a_category_that_the_source_does_not_have_is_named_with_those_it_has() -> None:
    num_rows = {Stratum("g", "code"): 3, Stratum("g", "math"): 4, Stratum("g", "empty"): 0}
    sources = [Weighted("g", 1, {"code": 1, "maths": 1, "empty": 1})]
    with pytest.raises(
        MixtureError, match=r"no rows of category 'maths'; it has code \(3 rows\), math \(4 rows\)"
    ) as error:
        plan((num_rows, sources, 4, 0))
    assert "no rows of category 'empty'" in str(error.value)
    with pytest.raises(MixtureError, match="it has no categories"):
        plan(({Stratum("g"): 5}, sources, 4, 0))


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(
        MixtureError, match=r"'a' is given twice.*weight of 'a' is 0.*'a' has no usable rows.*0 samples"
    ):
        plan(({}, [Weighted("a", 0), Weighted("a", 1)], 0, 0))


def test_an_empty_mixture_is_refused() -> None:
    with pytest.raises(MixtureError, match="no sources"):
        plan(({}, [], 4, 0))


@pytest.mark.parametrize("weights", [(1,), (100,), (0.75, 0.25), (0.1,) * 10, (75, 25), (33.3, 33.3, 33.4)])
def test_shares_and_percents_are_taken_without_a_word(weights: tuple[float, ...]) -> None:
    names = [f"s{number}" for number in range(len(weights))]
    assert describe_odd_sums([Weighted(name, weight) for name, weight in zip(names, weights, strict=True)]) == []


def test_weights_that_sum_to_something_else_are_said_to_at_both_levels() -> None:
    notes = describe_odd_sums([Weighted("a", 0.75), Weighted("b", 0.75, {"x": 60, "y": 60}), Weighted("c", 1e308)])
    assert [note.split(",")[0] for note in notes] == [
        "the weights of the sources sum to 1e+308",
        "the categories of b sum to 120",
    ]
    assert "the weights of the sources sum to inf" in describe_odd_sums([Weighted(n, 1.7e308) for n in "ab"])[0]
