from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.voc.conftest import Night
from voc.config.file import dump_config, hash_config, load_config, parse_config
from voc.errors import ConfigError, ObjectNotFoundError


def test_a_good_file_is_read_with_its_defaults(night: Night) -> None:
    config = load_config(night.config_path)
    assert config.arm("mix").unit == "samples"
    assert config.decision.voc_average == "micro"
    assert config.source("general").format == "general"


def test_all_mistakes_are_reported_at_once_with_key_path_and_value(night: Night) -> None:
    night.tree["training"]["max_step"] = night.tree["training"].pop("max_steps")
    night.tree["training"]["global_batch_size"] = "many"
    night.tree["serving"]["gpu_memory_utilization"] = 1.5
    night.tree["arms"][0]["sources"][0]["weight"] = -1
    del night.tree["model"]["base"]
    with pytest.raises(ConfigError) as caught:
        load_config(night.config_path)
    message = str(caught.value)
    assert "6 mistakes" in message
    assert "training.max_step: unknown key; did you mean 'max_steps'?" in message
    assert "training.max_steps: missing" in message
    assert "training.global_batch_size" in message
    assert "(seen: 'many')" in message
    assert "serving.gpu_memory_utilization" in message
    assert "(seen: 1.5)" in message
    assert "arms[0].sources[0].weight" in message
    assert "model.base: missing" in message
    assert str(night.config_path) in message


@pytest.mark.parametrize(
    ("section", "key", "hint"),
    [
        ("", "trainning", "'training'"),
        ("training.optimizer", "learningrate", "'learning_rate'"),
        ("evaluation.mmlu", "few_shot", "'num_fewshot'"),
        ("store", "zzz", "known keys: uri"),
    ],
)
def test_an_unknown_key_names_the_nearest_one_of_its_section(night: Night, section: str, key: str, hint: str) -> None:
    place = night.tree
    for part in filter(None, section.split(".")):
        place = place[part]
    place[key] = 1
    with pytest.raises(ConfigError, match=f"{key}: unknown key.*{hint}"):
        load_config(night.config_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t["arms"].append(t["arms"][0]), "'mix' appears twice"),
        (lambda t: t["arms"][0].update(name="base"), "'base' is reserved"),
        (lambda t: t["arms"][0]["sources"][0].update(name="customers"), "'customers' is not one of data.sources"),
        (lambda t: t["training"].update(num_workers=3), "4 is not a multiple of training.num_workers 3"),
        (
            lambda t: t["training"].update(
                num_workers=2, experts={"parallel_size": 2}, optimizer={"name": "adamw_8bit", "learning_rate": 1e-3}
            ),
            "adamw_8bit needs experts.parallel_size 1",
        ),
        (lambda t: t.update(arms=[]), "nothing to train"),
        (lambda t: t["training"]["optimizer"].update(learning_rate=float("nan")), "learning_rate"),
    ],
)
def test_contradictions_are_refused(night: Night, spoil, message: str) -> None:
    spoil(night.tree)
    with pytest.raises(ConfigError, match=message):
        load_config(night.config_path)


def test_environment_values_are_filled_in(night: Night) -> None:
    night.tree["store"]["uri"] = "s3://${BUCKET}/${PREFIX:-nightly}"
    config = load_config(night.config_path, environ={"BUCKET": "b"})
    assert config.store.uri == "s3://b/nightly"
    assert load_config(night.config_path, environ={"BUCKET": "b", "PREFIX": "p"}).store.uri == "s3://b/p"


def test_every_unset_variable_is_named_with_its_key(night: Night) -> None:
    night.tree["store"]["uri"] = "${NO_STORE}"
    night.tree["data"]["sources"][1]["uri"] = "${NO_DATA}/x"
    with pytest.raises(ConfigError, match=r"store\.uri needs .*NO_STORE.*data\.sources\[1\]\.uri needs .*NO_DATA"):
        load_config(night.config_path, environ={})


def test_an_override_wins_and_makes_its_variable_unneeded(night: Night) -> None:
    night.tree["store"]["uri"] = "${NO_STORE}"
    config = load_config(
        night.config_path,
        overrides={"store.uri": "/tmp/s", "training.max_steps": 7, "decision.confidence": 0.9},
        environ={},
    )
    assert (config.store.uri, config.training.max_steps, config.decision.confidence) == ("/tmp/s", 7, 0.9)


def test_an_override_cannot_read_the_environment(night: Night) -> None:
    config = load_config(night.config_path, overrides={"arms": [{**night.tree["arms"][0], "title": "${TOKEN}"}]},
                         environ={"TOKEN": "secret"})  # fmt: skip
    assert config.arms[0].title == "${TOKEN}"


def test_an_override_of_an_unknown_key_names_the_nearest(night: Night) -> None:
    with pytest.raises(ConfigError, match=r"training\.max_stepz: unknown key; did you mean 'max_steps'"):
        load_config(night.config_path, overrides={"training.max_stepz": 1})


def test_an_override_through_a_value_is_refused(night: Night) -> None:
    with pytest.raises(ConfigError, match="not a section"):
        load_config(night.config_path, overrides={"name.first": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not readable YAML"),
        ("- 1\n- 2\n", "holds list"),
        ("", "holds NoneType"),
        ("name: a\nname: b\n", "'name' appears twice"),
        ("training:\n  max_steps: 1\n  max_steps: 2\n", "'max_steps' appears twice"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.yaml")


def test_anchors_and_merges_still_work(night: Night) -> None:
    arms = "- &first {name: one, title: One, sources: [{name: customer, weight: 1}]}\n- {<<: *first, name: two}\n"
    del night.tree["arms"]
    path = night.path("anchors.yaml")
    path.write_text(f"{night.config_path.read_text()}arms:\n{arms}")
    assert [(arm.name, arm.title) for arm in load_config(path).arms] == [("one", "One"), ("two", "One")]


def test_a_missing_file_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"none\.yaml does not exist"):
        load_config(tmp_path / "none.yaml")


def test_a_saved_config_comes_back_equal_with_the_same_hash(night: Night) -> None:
    config = load_config(night.config_path)
    again = parse_config(dump_config(config), "run")
    assert again == config
    assert hash_config(again) == hash_config(config)


def test_the_hash_sees_values_and_not_spelling(night: Night) -> None:
    config = load_config(night.config_path)
    night.tree["seed"] = 0  # the default, written out
    night.tree["training"]["optimizer"]["learning_rate"] = "1e-3"
    assert hash_config(load_config(night.config_path)) == hash_config(config)
    assert hash_config(load_config(night.config_path, overrides={"seed": 1})) != hash_config(config)


def test_a_saved_config_that_was_edited_is_refused(night: Night) -> None:
    document = json.loads(dump_config(load_config(night.config_path)))
    document["config"]["seed"] = 5
    with pytest.raises(ConfigError, match="own hash"):
        parse_config(json.dumps(document).encode(), "run")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"null"])
def test_a_damaged_saved_config_is_a_named_error(data: bytes) -> None:
    with pytest.raises(ConfigError, match="damaged"):
        parse_config(data, "run")


class _Anything(dict):
    """An environment in which every variable is set."""

    def __contains__(self, _: object) -> bool:
        return True

    def get(self, name: str, default: str = "") -> str:
        return default or f"/{name.lower()}"


def test_every_shipped_configuration_is_right(repository: Path) -> None:
    paths = sorted((repository / "configs").glob("*.yaml"))
    assert len(paths) >= 3
    for path in paths:
        assert load_config(path, environ=_Anything()).name


def test_a_server_is_never_bound_to_every_network(night: Night) -> None:
    night.tree["serving"]["host"] = "0.0.0.0"  # noqa: S104
    with pytest.raises(ConfigError, match=r"serving\.host.*routes outside /v1 ask for no key"):
        load_config(night.config_path)
