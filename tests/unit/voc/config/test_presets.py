from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.unit.voc.conftest import Night
from voc.config.file import dump_config, list_presets, load_config, merge, parse_config, read_preset
from voc.errors import ConfigError
from voc.memory.plan import GIB, plan_memory, read_setup
from voc.models.shapes import read_shapes

ENVIRONMENT = {"NIGHTFORGE_STORE": "s3://bucket/prefix"}
NIGHTLY = REPOSITORY / "configs" / "nightly.yaml"


def test_the_presets_of_the_issue_are_there() -> None:
    assert list_presets() == ["qwen3-0.6b", "qwen3-1.7b", "qwen3-30b-a3b", "qwen3-4b", "qwen3-8b"]


@pytest.mark.parametrize("name", list_presets())
def test_every_preset_resolves_in_the_nightly_configuration_and_fits_the_machine_that_it_names(name: str) -> None:
    config = load_config(NIGHTLY, overrides={"preset": name}, environ=ENVIRONMENT)
    preset = read_preset(name)
    machine = preset.memory_plan
    assert config.training.num_workers == machine["nodes"] * machine["gpus_per_node"]
    assert config.training.gpu_memory_gib == machine["gpu_memory_gib"]
    plan = plan_memory(read_shapes(preset.architecture, name), read_setup(config.training, device="cuda"))
    assert plan.fits(machine["gpu_memory_gib"] * GIB)
    assert plan.peak.total / GIB == pytest.approx(machine["peak_gib"], abs=0.05)


def test_nightly_trains_30b_by_its_preset_and_states_only_what_differs() -> None:
    config = load_config(NIGHTLY, environ=ENVIRONMENT)
    assert config.preset == "qwen3-30b-a3b"
    assert config.training.max_steps == 900
    assert (
        config.training.optimizer.learning_rate == read_preset("qwen3-30b-a3b").training["optimizer"]["learning_rate"]
    )
    stated = {"max_steps", "max_failures", "start_timeout_s", "validation", "guard"}
    assert set(yaml.safe_load(NIGHTLY.read_text())["training"]) == stated


def test_a_configuration_wins_over_its_preset_key_by_key_and_an_override_over_both(night: Night) -> None:
    night.tree["preset"] = "qwen3-8b"
    night.tree["training"] = {"max_steps": 5, "num_workers": 4, "optimizer": {"warmup_steps": 7}}
    config = load_config(night.config_path, overrides={"training.global_batch_size": 8})
    recipe = read_preset("qwen3-8b").training
    training = config.training
    assert (training.num_workers, training.global_batch_size, training.max_seq_len) == (4, 8, recipe["max_seq_len"])
    assert training.optimizer.warmup_steps == 7
    assert training.optimizer.learning_rate == recipe["optimizer"]["learning_rate"]


def test_what_is_saved_is_what_came_out_and_is_read_without_the_preset_file(night: Night, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(yaml.safe_dump({"architecture": {}, "training": {"max_seq_len": 77}, "memory_plan": {}}))
    night.tree["preset"] = str(own)
    del night.tree["training"]["max_seq_len"]
    config = load_config(night.config_path)
    own.unlink()
    assert parse_config(dump_config(config), "config.json").training.max_seq_len == 77


def test_an_unknown_preset_names_those_that_there_are(night: Night) -> None:
    night.tree["preset"] = "qwen3-9b"
    with pytest.raises(ConfigError, match=r"no preset 'qwen3-9b'.*qwen3-8b"):
        load_config(night.config_path)


def test_a_wrong_key_of_a_preset_is_a_mistake_like_any_other(night: Night, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(yaml.safe_dump({"architecture": {}, "training": {"max_sequence": 77}, "memory_plan": {}}))
    night.tree["preset"] = str(own)
    with pytest.raises(ConfigError, match=r"training.max_sequence: unknown key; did you mean 'max_seq_len'"):
        load_config(night.config_path)


def test_a_preset_has_its_three_sections_and_no_others(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(yaml.safe_dump({"architecture": [], "training": {}, "serving": {}}))
    with pytest.raises(ConfigError, match="wrong in memory_plan, serving, architecture"):
        read_preset(str(own))


def test_sections_are_merged_and_lists_are_replaced() -> None:
    assert merge({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}, "e": 3}) == {
        "a": {"b": 1, "c": [2]},
        "d": 2,
        "e": 3,
    }
