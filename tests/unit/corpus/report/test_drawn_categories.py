"""What is drawn of each category of a source whose rows are drawn as they occur."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corpus.mixing.draw import plan_draw
from corpus.mixing.order import TrainingOrder
from corpus.parts.source_rows import SourceRows
from corpus.report.data_report import describe_arm_draws, list_detailed_draws, list_draws
from corpus.report.mix_table import format_mix
from voc.config.arms import SourceWeight

NAMES = ("math", "code", "chat")
COUNTED = ("num_rows", "num_samples", "num_tokens", "num_assistant_tokens", "unused_rows")


def make_rows(categories: list[int]) -> SourceRows:
    tokens = np.arange(1, len(categories) + 1, dtype=np.int32)
    return SourceRows(tokens, tokens // 2, np.array(categories, dtype=np.int32), NAMES)


@given(
    categories=st.lists(st.integers(0, 2), min_size=1, max_size=30),
    num_samples=st.integers(1, 100),
    unit=st.sampled_from(["samples", "tokens"]),
)
def test_the_categories_of_a_source_sum_to_the_source(categories: list[int], num_samples: int, unit) -> None:
    rows = {"general": make_rows(categories)}
    plan = plan_draw(rows, [SourceWeight(name="general", weight=1)], unit=unit, num_samples=num_samples, seed=3)
    (entry,) = describe_arm_draws(plan, rows)
    for name in COUNTED:
        assert sum(part[name] for part in entry["categories"]) == entry[name]
    drawn = TrainingOrder(plan).locate(0, num_samples)[1]
    for part in entry["categories"]:
        chosen = drawn[rows["general"].categories[drawn] == NAMES.index(part["category"])]
        assert part["num_samples"] == len(chosen)
        assert part["max_repeats"] == (np.bincount(chosen).max() if len(chosen) else 0)


def test_categories_with_weights_of_their_own_are_shares_already() -> None:
    rows = {"general": make_rows([0, 1, 1])}
    sources = [SourceWeight(name="general", weight=1, categories={"math": 1, "code": 3})]
    entries = describe_arm_draws(plan_draw(rows, sources, unit="samples", num_samples=8, seed=0), rows)
    assert [(entry["category"], entry["num_samples"]) for entry in entries] == [("math", 2), ("code", 6)]
    assert all("categories" not in entry for entry in entries)


def test_the_table_lists_them_below_their_source_and_counts_nothing_twice() -> None:
    rows = {"customer": SourceRows(np.ones(4, np.int32), np.ones(4, np.int32)), "general": make_rows([0, 1, 1, 0])}
    sources = [SourceWeight(name=name, weight=0.5) for name in rows]
    plan = plan_draw(rows, sources, unit="samples", num_samples=8, seed=0)
    arm = {**plan.to_json(), "sources": describe_arm_draws(plan, rows)}
    assert [draw.category for draw in list_draws(arm)] == [None, None]
    assert [draw.category for draw in list_detailed_draws(arm)] == [None, None, "code", "math"]
    lines = format_mix({"arms": {"mix": arm}}).splitlines()
    assert [line.split()[:2] for line in lines[3:7]] == [
        ["customer", "(all)"],
        ["general", "(all)"],
        ["general", "code"],
        ["general", "math"],
    ]
    assert lines[7].split()[:2] == ["(together)", "8"]
