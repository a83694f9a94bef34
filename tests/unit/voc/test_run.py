from __future__ import annotations

import json

import pytest

from tests.unit.voc.conftest import Night
from voc.config.file import load_config
from voc.errors import ConfigError, ObjectNotFoundError
from voc.preflight.preflight import create_run
from voc.run import ModelEntry, Run, find_model, open_run, read_models, write_models
from voc.store.base import Store
from voc.store.layout import RunLayout

MODELS = [
    ModelEntry("base", "reference", "base", "file:///m/base", "d1"),
    ModelEntry("mix", "candidate", "75/25", "file:///m/mix", None),
]


@pytest.fixture
def run(night: Night, store: Store) -> Run:
    create_run(store, RunLayout("r1"), load_config(night.config_path))
    return open_run(store.uri, "r1")


def test_a_created_run_opens_with_its_configuration(run: Run, night: Night) -> None:
    assert run.config == load_config(night.config_path)
    assert run.layout.run_id == "r1"


def test_a_run_that_was_not_created_says_how_to(local_store: Store) -> None:
    with pytest.raises(ConfigError, match="preflight"):
        open_run(local_store.uri, "r1")


@pytest.mark.parametrize("data", [b"{", b'{"config": {}, "hash": "x"}'])
def test_a_damaged_configuration_is_a_named_error(local_store: Store, data: bytes) -> None:
    local_store.write_bytes("runs/r1/config.json", data)
    with pytest.raises(ConfigError, match=r"runs/r1/config\.json"):
        open_run(local_store.uri, "r1")


def test_a_stage_that_ends_well_leaves_its_wall_time(run: Run) -> None:
    with run.timed("prepare"):
        pass
    timing = json.loads(run.store.read_bytes("runs/r1/timings/prepare.json"))
    assert timing["stage"] == "prepare"
    assert timing["wall_s"] >= 0
    assert timing["started_at"].endswith("+00:00")


def test_a_stage_that_fails_leaves_none(run: Run) -> None:
    with pytest.raises(ZeroDivisionError), run.timed("prepare"):
        raise ZeroDivisionError
    assert list(run.store.list_keys(run.layout.timings)) == []


def test_models_come_back_in_order(run: Run) -> None:
    write_models(run, MODELS)
    assert read_models(run) == MODELS
    assert find_model(run, "mix") == MODELS[1]


def test_an_unknown_model_names_the_known_ones(run: Run) -> None:
    write_models(run, MODELS)
    with pytest.raises(ConfigError, match=r"no model 'mixx'.*base, mix"):
        find_model(run, "mixx")


def test_before_prepare_there_are_no_models(run: Run) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"models\.json"):
        read_models(run)
