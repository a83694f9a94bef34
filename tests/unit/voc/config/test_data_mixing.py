from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voc.config.arms import SERVICE_CATEGORIES, format_data_mixing, is_customer_only, parse_data_mixing
from voc.errors import ConfigError

CATALOG = "sft_1p5_text_chat"
quick = settings(deadline=None, max_examples=60, database=None)


def test_the_block_has_the_services_keys_and_percents() -> None:
    assert format_data_mixing({"math": 1, "code": 3}, 0.75, CATALOG) == {
        "dataset_catalog": CATALOG,
        "sources": {"customer_data": {"percent": 75}, "nova_data": {"math": 25, "code": 75}},
    }


def test_all_customer_data_needs_no_categories() -> None:
    block = format_data_mixing({}, 1, CATALOG)
    assert block["sources"] == {"customer_data": {"percent": 100}, "nova_data": {}}
    assert parse_data_mixing(block) == (100.0, {})
    del block["sources"]["nova_data"]
    assert parse_data_mixing(block) == (100.0, {})


@quick
@given(
    shares=st.dictionaries(st.sampled_from(SERVICE_CATEGORIES), st.floats(0.001, 1e6), min_size=1),
    ratio=st.floats(0, 1),
)
def test_any_shares_sum_to_100_and_are_read_back(shares: dict[str, float], ratio: float) -> None:
    block = format_data_mixing(shares, ratio, CATALOG)
    percent, percents = parse_data_mixing(json.loads(json.dumps(block)))
    assert math.isclose(percent, ratio * 100, abs_tol=1e-6)
    assert math.isclose(math.fsum(percents.values()), 100, abs_tol=1e-9)
    total = sum(shares.values())
    assert all(math.isclose(percents[name], share / total * 100, abs_tol=2e-6) for name, share in shares.items())


@pytest.mark.parametrize(
    ("shares", "ratio", "catalog", "problem"),
    [
        ({"maths": 1, "poetry": 1}, 0.5, CATALOG, "does not have: maths, poetry"),
        ({"math": -1}, 0.5, CATALOG, "shares.math is -1"),
        ({"math": math.nan}, 0.5, CATALOG, "shares.math is nan"),
        ({"math": True}, 0.5, CATALOG, "shares.math is True"),
        ({"math": 0}, 0.5, CATALOG, "empty or all 0"),
        ({}, 0.5, CATALOG, "empty or all 0"),
        ({"math": 1}, 1.5, CATALOG, "customer_ratio is 1.5"),
        ({"math": 1}, math.inf, CATALOG, "customer_ratio is inf"),
        ({"math": 1}, 0.5, "", "dataset_catalog is empty"),
    ],
)
def test_a_mixture_that_the_service_cannot_have_is_refused(
    shares: dict[str, Any], ratio: float, catalog: str, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        format_data_mixing(shares, ratio, catalog)


def block_of(percent: Any = 75, **categories: Any) -> dict[str, Any]:
    return {
        "dataset_catalog": CATALOG,
        "sources": {"customer_data": {"percent": percent}, "nova_data": categories},
    }


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        (None, "data_mixing is None"),
        ([], "data_mixing is"),
        ({}, r"lacks dataset_catalog.*lacks sources"),
        ({**block_of(math=100), "more": 1}, "unknown keys 'more'"),
        (block_of(math=99.9), r"sum to 99.9, expected 100"),
        (block_of(), "sum to 0"),
        (block_of(math=101, code=-1), r"math is 101.*code is -1"),
        (block_of(math=math.nan), "math is nan"),
        (block_of(math="100"), "math is '100'"),
        (block_of(math=True), "math is True"),
        (block_of(math=None), "math is None"),
        (block_of(maths=100), "does not have: maths"),
        (block_of(-1, math=100), "percent is -1"),
        (block_of(100.5, math=100), "percent is 100.5"),
        (block_of(None, math=100), "percent is None"),
        (block_of(100, math=50), "sum to 50"),
        ({**block_of(math=100), "dataset_catalog": 7}, "dataset_catalog is 7"),
        (
            {**block_of(math=100), "sources": {"customer_data": 75, "nova_data": []}},
            r"customer_data is 75.*nova_data is",
        ),
        ({**block_of(math=100), "sources": {"customer": {}}}, r"unknown keys 'customer'.*lacks customer_data"),
    ],
)
def test_a_block_with_a_mistake_is_refused(block: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_data_mixing(block)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError, match=r"percent is 120.*does not have: maths.*code is -5.*sum to 50"):
        parse_data_mixing(block_of(120, maths=50, code=-5))


def test_a_block_without_customer_data_is_a_mistake_only_where_they_are_needed() -> None:
    assert parse_data_mixing(block_of(0, math=100)) == (0.0, {"math": 100.0})
    with pytest.raises(ConfigError, match=r"percent is 0, expected more.*sum to 50"):
        parse_data_mixing(block_of(0, math=50), needs_customer=True)


@pytest.mark.parametrize(("percent", "is_alone"), [(100, True), (100 - 1e-9, True), (99.99, False), (0, False)])
def test_all_but_a_rounding_error_is_customer_only(percent: float, is_alone: bool) -> None:
    assert is_customer_only(percent) == is_alone
