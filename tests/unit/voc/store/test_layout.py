from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voc.errors import ConfigError
from voc.store.base import check_key
from voc.store.layout import RunLayout, check_name, make_run_id, model_key, result_cache_key


@given(st.text(max_size=200))
def test_any_label_becomes_a_usable_run_id(label: str) -> None:
    run_id = make_run_id(label)
    assert RunLayout(run_id).root == f"runs/{run_id}"
    assert check_key(RunLayout(run_id).config)


@given(st.text(max_size=60), st.text(max_size=60))
def test_different_labels_give_different_run_ids(one: str, other: str) -> None:
    assert (make_run_id(one) == make_run_id(other)) == (one == other)


@pytest.mark.parametrize("label", ["night-1", "manual__2026-11-22T03.00", "a"])
def test_a_safe_label_stays_as_it_is(label: str) -> None:
    assert make_run_id(label) == label


def test_an_airflow_run_id_stays_readable() -> None:
    run_id = make_run_id("scheduled__2026-11-22T03:00:00+00:00")
    assert run_id.startswith("scheduled__2026-11-22T03-00-00-00-00-")


def test_labels_that_differ_beyond_the_length_limit_stay_different() -> None:
    assert make_run_id("x" * 300) != make_run_id("x" * 301)
    assert len(make_run_id("x" * 300)) <= 100


@pytest.mark.parametrize("name", ["", "..", ".hidden", "-x", "a/b", "a b", "ä", "x" * 101, "a\n"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="object key"):
        check_name(name, "run id")
    with pytest.raises(ConfigError):
        RunLayout(name)
    with pytest.raises(ConfigError):
        RunLayout("run").arm(name)
    with pytest.raises(ConfigError):
        model_key(name)


def test_all_keys_of_a_run_are_below_it_and_distinct() -> None:
    layout = RunLayout("r")
    keys = [
        layout.config, layout.models, layout.data, layout.mixture("a"), layout.checkpoint("a", 7), layout.export("a"),
        layout.startup("a"), layout.training("a"), layout.endpoint("m"), layout.shard("m", "voc", 0, 2),
        layout.shard("m", "voc", 1, 2), layout.results("m"), layout.decision, layout.promotion, layout.report, layout.timings,
    ]  # fmt: skip
    assert all(key.startswith("runs/r/") for key in keys)
    assert len(set(keys)) == len(keys)


def test_checkpoints_sort_by_step() -> None:
    layout = RunLayout("r")
    assert layout.checkpoint("a", 9) < layout.checkpoint("a", 10) < layout.checkpoint("a", 1000)


def test_a_kept_shard_has_a_key_outside_of_runs() -> None:
    key = result_cache_key("mmlu_letter", "0" * 64)
    assert key == f"cache/evaluation/mmlu_letter/{'0' * 64}"
    assert check_key(key)
    with pytest.raises(ConfigError):
        result_cache_key("../runs", "0" * 64)
