from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corpus.mixing.draw import plan_draw, sum_drawn
from corpus.mixing.order import TrainingOrder
from corpus.parts.source_rows import SourceRows
from voc.config.arms import SourceWeight
from voc.errors import MixtureError
from voc.mixture import MixturePlan, Stratum, apportion, parse_mixture, plan_mixture

UNITS = ("samples", "tokens", "assistant_tokens")
ANY_LENGTH = st.integers(1, 500)


def make_rows(tokens: list[int], assistant: list[int] | None = None, categories: str = "") -> SourceRows:
    names = tuple(sorted(set(categories)))
    codes = np.array([names.index(category) for category in categories], dtype=np.int32)
    learned = np.array(assistant if assistant is not None else tokens, dtype=np.int32)
    return SourceRows(np.array(tokens, dtype=np.int32), learned, codes, names)


@st.composite
def draws(draw, lengths=ANY_LENGTH):
    rows, sources = {}, []
    for name in "abc"[: draw(st.integers(1, 3))]:
        categories = "xyz"[: draw(st.integers(0, 3))]
        tokens = draw(st.lists(lengths, min_size=max(1, len(categories)), max_size=25))
        others = draw(st.lists(st.sampled_from(categories), min_size=25, max_size=25)) if categories else []
        labels = (categories + "".join(others))[: len(tokens)] if categories else ""
        rows[name] = make_rows(tokens, draw(st.permutations(tokens)), labels)
        shares = {category: draw(st.floats(0.05, 20)) for category in categories if draw(st.booleans())}
        sources.append(SourceWeight(name=name, weight=draw(st.floats(0.05, 20)), categories=shares))
    return rows, sources, draw(st.sampled_from(UNITS)), draw(st.integers(1, 200)), draw(st.integers(0, 9))


def plan(mixture) -> MixturePlan:
    rows, sources, unit, num_samples, seed = mixture
    return plan_draw(rows, sources, unit=unit, num_samples=num_samples, seed=seed)


@given(draws())
def test_the_figures_of_a_plan_are_those_of_the_rows_in_training_order(mixture) -> None:
    rows, _, _, num_samples, _ = mixture
    planned = plan(mixture)
    order = TrainingOrder(parse_mixture(json.loads(json.dumps(planned.to_json()))))
    strata, numbers = order.locate(0, len(order))
    assert len(order) == num_samples
    for index, share in enumerate(planned.shares):
        source = rows[share.name]
        drawn = source.select(share.category)[numbers[strata == index]]
        assert len(drawn) == share.num_samples
        assert share.num_tokens == source.tokens[drawn].sum()
        assert share.num_assistant_tokens == source.assistant_tokens[drawn].sum()
        if share.category is not None:
            assert {source.category_names[code] for code in source.categories[drawn]} <= {share.category}


@given(draws())
def test_no_row_is_drawn_more_than_once_more_than_another_in_any_unit(mixture) -> None:
    planned = plan(mixture)
    strata, numbers = TrainingOrder(planned).locate(0, planned.num_samples)
    for index, share in enumerate(planned.shares):
        counts = np.bincount(numbers[strata == index], minlength=share.num_rows)
        assert len(counts) == share.num_rows
        assert counts.max() - counts.min() <= 1


@given(draws())
def test_what_is_missing_from_exact_shares_is_reported_and_never_more_than_a_few_rows(mixture) -> None:
    rows, sources, unit, _, _ = mixture
    planned = plan(mixture)
    if unit == "samples":
        assert all(share.residual_tokens is None for share in planned.shares)
        return
    tokens = {s.stratum: s.num_tokens if unit == "tokens" else s.num_assistant_tokens for s in planned.shares}
    exact = apportion(sources, sum(tokens.values()))
    longest = [int(rows[s.name].tokens[rows[s.name].select(s.category)].max()) for s in planned.shares]
    longest_learned = [int(rows[s.name].assistant_tokens.max()) for s in planned.shares]
    for share in planned.shares:
        assert share.residual_tokens == tokens[share.stratum] - exact[share.stratum]
        assert abs(share.residual_tokens) <= 2 * sum(longest if unit == "tokens" else longest_learned) + 2
    assert sum(share.residual_tokens for share in planned.shares) == 0


@given(st.lists(st.floats(1, 4), min_size=1, max_size=4), st.integers(300, 9000), st.integers(0, 999))
def test_shares_are_exact_to_one_token_where_lengths_are_many(weights, num_samples: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, sources = {}, []
    for index, weight in enumerate(weights):
        tokens = np.clip(generator.lognormal(5, 0.6, 2000), 8, 1500).astype(np.int32)
        categories = generator.integers(0, 2, 2000) if index % 2 else np.empty(0, dtype=np.int64)
        rows[str(index)] = SourceRows(tokens, tokens // 3, categories, ("x", "y") if index % 2 else ())
        shares = {"x": 2.0, "y": 3.0} if index % 2 else {}
        sources.append(SourceWeight(name=str(index), weight=weight, categories=shares))
    for unit in ("tokens", "assistant_tokens"):
        planned = plan((rows, sources, unit, num_samples, seed))
        assume(all(3 < share.num_samples % share.num_rows < share.num_rows - 3 for share in planned.shares))
        assert not any(share.residual_tokens for share in planned.shares)


@given(draws(lengths=st.just(7)))
def test_rows_of_one_length_are_shared_like_samples_up_to_one_row(mixture) -> None:
    rows, sources, unit, num_samples, seed = mixture
    planned = plan(mixture)
    by_samples = plan((rows, sources, "samples", num_samples, seed))
    for share, other in zip(planned.shares, by_samples.shares, strict=True):
        assert abs(share.num_samples - other.num_samples) <= (0 if unit == "samples" else len(planned.shares))
        assert not share.swaps


@given(draws(lengths=st.integers(0, 3)))
def test_rows_without_tokens_are_counted_as_rows_too(mixture) -> None:
    try:
        planned = plan(mixture)
    except MixtureError as error:
        assert "tokens" in error.problem
    else:
        assert sum(share.num_samples for share in planned.shares) == mixture[3]


@given(draws())
def test_weights_in_samples_are_planned_without_looking_at_tokens(mixture) -> None:
    rows, sources, _, num_samples, seed = mixture
    planned = plan((rows, sources, "samples", num_samples, seed))
    num_rows = {
        Stratum(name, category): len(source.select(category))
        for name, source in rows.items()
        for category in source.category_names or (None,)
    }
    counts = plan_mixture(num_rows, sources, num_samples=num_samples, seed=seed)
    assert [s.num_samples for s in planned.shares] == [s.num_samples for s in counts.shares]


def test_a_short_source_is_repeated_and_a_seed_changes_the_rows() -> None:
    generator = np.random.default_rng(0)
    rows = {name: make_rows(generator.integers(20, 400, 300).tolist()) for name in ("customer", "general")}
    sources = [SourceWeight(name="customer", weight=75), SourceWeight(name="general", weight=25)]
    planned = plan((rows, sources, "tokens", 1000, 0))
    customer, general = planned.shares
    assert customer.num_tokens in {3 * general.num_tokens + step for step in range(-2, 3)}
    assert (customer.sampling, customer.max_repeats, general.sampling) == ("over", 3, "under")
    assert plan((rows, sources, "tokens", 1000, 0)) == planned
    assert plan((rows, sources, "tokens", 1000, 1)) != planned


def test_shares_that_rows_do_not_permit_leave_a_residual() -> None:
    rows = {"a": make_rows([100]), "b": make_rows([7] * 50)}
    sources = [SourceWeight(name="a", weight=1), SourceWeight(name="b", weight=1)]
    planned = plan((rows, sources, "tokens", 10, 0))
    assert [(s.num_samples, s.num_tokens, s.residual_tokens) for s in planned.shares] == [(1, 100, 18), (9, 63, -18)]


def test_sums_over_many_passes_are_those_of_every_draw() -> None:
    rows = {"a": make_rows([1, 2, 30])}
    (share,) = plan((rows, [SourceWeight(name="a", weight=1)], "tokens", 10**9, 0)).shares
    assert share.num_tokens - 333_333_333 * 33 in {1, 2, 30}
    assert sum_drawn(share, 0, np.array([1, 1, 1], dtype=np.int32)) == 10**9


def test_a_stratum_without_tokens_is_named() -> None:
    rows = {"a": make_rows([5, 5]), "b": make_rows([5, 5], [0, 0])}
    sources = [SourceWeight(name="a", weight=1), SourceWeight(name="b", weight=1)]
    with pytest.raises(MixtureError, match="the rows of 'b' have no assistant tokens"):
        plan((rows, sources, "assistant_tokens", 4, 0))
    assert len(plan((rows, sources, "tokens", 4, 0)).shares) == 2


@pytest.mark.parametrize("unit", UNITS)
def test_a_mixture_that_cannot_be_drawn_is_refused_in_every_unit(unit: str) -> None:
    rows = {"a": make_rows([5, 5, 6], categories="xxy")}
    with pytest.raises(MixtureError, match=r"'z'; it has x \(2 rows\), y \(1 rows\)"):
        plan((rows, [SourceWeight(name="a", weight=1, categories={"z": 1})], unit, 4, 0))
    with pytest.raises(MixtureError, match="'b' has no usable rows"):
        plan((rows, [SourceWeight(name="b", weight=1)], unit, 4, 0))
    with pytest.raises(MixtureError, match="0 samples"):
        plan((rows, [SourceWeight(name="a", weight=1)], unit, 0, 0))


@pytest.mark.parametrize(
    ("tokens", "learned", "categories", "names"),
    [
        ([1, 2], [1], [], ()),
        ([1, 2], [1, 2], [0], ("x",)),
        ([1, 2], [1, 2], [0, 0], ()),
        ([1, -2], [1, 2], [], ()),
        ([1, 2], [1, 2], [0, 1], ("x",)),
        ([1, 2], [1, 2], [0, -1], ("x",)),
    ],
)
def test_figures_that_do_not_fit_each_other_are_refused(tokens, learned, categories, names) -> None:
    with pytest.raises(ValueError, match=r"rows have|a row has"):
        SourceRows(np.array(tokens), np.array(learned), np.array(categories, dtype=np.int32), names)
