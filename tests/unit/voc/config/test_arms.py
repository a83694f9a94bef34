"""An arm that is written as the closed service's `data_mixing` block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.voc.conftest import Night
from voc.config.arms import ArmConfig
from voc.config.file import dump_config, hash_config, load_config, parse_config
from voc.errors import ConfigError


def block_of(percent: Any = 75, **categories: Any) -> dict[str, Any]:
    return {
        "dataset_catalog": "sft_1p5_text_chat",
        "sources": {"customer_data": {"percent": percent}, "nova_data": categories},
    }


def set_block(night: Night, block: Any) -> None:
    night.tree["arms"] = [{"name": "mix", "title": "as there", "data_mixing": block}]


def load_arm(night: Night, block: Any) -> ArmConfig:
    set_block(night, block)
    return load_config(night.config_path).arm("mix")


def test_a_block_becomes_the_sources_that_it_stands_for(night: Night) -> None:
    arm = load_arm(night, block_of(75, math=60, code=40.0, rai=0))
    assert [(s.name, s.weight, s.categories) for s in arm.sources] == [
        ("customer", 75, {}),
        ("general", 25, {"math": 60, "code": 40}),
    ]
    assert arm.unit == "samples"


@pytest.mark.parametrize("categories", [{}, {"math": 100}])
def test_all_customer_data_is_the_customer_only(night: Night, categories: dict[str, int]) -> None:
    night.tree["data"]["sources"].pop()  # nothing general is needed
    assert [(s.name, s.weight) for s in load_arm(night, block_of(100, **categories)).sources] == [("customer", 100)]


def test_a_saved_block_comes_back_equal_as_it_was_given(night: Night) -> None:
    block = block_of(70.5, math=100)
    set_block(night, block)
    config = load_config(night.config_path)
    again = parse_config(dump_config(config), "run")
    assert again == config
    assert again.arms[0].sources == config.arms[0].sources != ()
    assert hash_config(again) == hash_config(config)
    assert config.arms[0].model_dump(mode="json") == {
        "name": "mix", "title": "as there", "unit": "samples", "data_mixing": block,
    }  # fmt: skip


def test_an_arm_of_sources_is_saved_without_a_block(night: Night) -> None:
    assert list(load_config(night.config_path).arms[0].model_dump()) == ["name", "title", "unit", "sources"]


def add_source(name: str, kind: str) -> Callable[[Night], None]:
    def spoil(night: Night) -> None:
        night.tree["data"]["sources"].append({"name": name, "uri": "/x", "format": kind})

    return spoil


SPOILED: dict[str, tuple[Callable[[Night], Any], str]] = {
    "two customers": (add_source("other", "voc"), r"customer_data is .*format voc.* 2 sources \(customer, other\)"),
    "two general": (add_source("other", "general"), r"nova_data is .*format general.* 2 sources \(general, other\)"),
    "no general": (lambda night: night.tree["data"]["sources"].pop(), "nova_data is .* has no source with that format"),
    "both": (lambda n: n.tree["arms"][0].update(sources=[{"name": "customer", "weight": 1}]), "both .* exactly one"),
    "neither": (lambda night: night.tree["arms"][0].pop("data_mixing"), r"arms\[0\]: neither .* exactly one"),
    "null": (lambda night: night.tree["arms"][0].update(data_mixing=None), r"arms\[0\]: neither .* exactly one"),
    "no mapping": (lambda night: set_block(night, [1]), r"arms\[0\]\.data_mixing: .*valid dictionary"),
    "no block": (lambda night: set_block(night, {}), r"arms\[0\]\.data_mixing: .*lacks dataset_catalog.*lacks sources"),
    "no customer": (lambda night: set_block(night, block_of(0, math=100)), "percent is 0, expected more"),
    "no categories": (lambda night: set_block(night, block_of(50)), "sum to 0, expected 100"),
    "no sources": (lambda night: night.tree["arms"].append({"name": "b", "title": "b", "sources": []}), "at least 1"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_cannot_be_derived_is_refused(night: Night, case: str) -> None:
    spoil, message = SPOILED[case]
    set_block(night, block_of(75, math=100))
    spoil(night)
    with pytest.raises(ConfigError, match=message):
        load_config(night.config_path)


def test_the_mistakes_of_a_block_are_reported_with_all_others(night: Night) -> None:
    set_block(night, block_of(0, maths=50, code=-1))
    night.tree["seed"] = -1
    with pytest.raises(ConfigError) as caught:
        load_config(night.config_path)
    parts = ("2 mistakes", "seed", "percent is 0", "not have: maths", "code is -1", "sum to 50, expected 100")
    assert [part for part in parts if part not in str(caught.value)] == []


def test_missing_partners_of_all_arms_are_reported_at_once(night: Night) -> None:
    night.tree["data"]["sources"] = [{"name": n, "uri": "/x", "format": "voc"} for n in "ab"]
    night.tree["arms"] = [{"name": n, "title": n, "data_mixing": block_of(75, math=100)} for n in ("one", "two")]
    with pytest.raises(ConfigError, match=r"arms\.one.*customer_data.*arms\.one.*nova_data.*arms\.two.*nova_data"):
        load_config(night.config_path)
