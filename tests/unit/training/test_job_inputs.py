"""A training is made again when a key of the configuration changes, unless that key is named as an exception."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from training.job import list_settings
from voc.config.file import load_config
from voc.config.night import NightforgeConfig

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "demo.yaml"
# Written out a second time on purpose: to take a key out of what a training depends on is a decision, not an edit.
COUNTED_BY_DIGEST = ("data", "model", "prompt", "arms")
PLACEMENT = (
    "name",
    "preset",
    "store",
    "extra_models",
    "external_models",
    "serving",
    "evaluation",
    "decision",
    "promotion",
    "training.num_workers",
    "training.cpus_per_worker",
    "training.gpus_per_worker",
    "training.gpu_memory_gib",
    "training.checkpoint",
    "training.export",
    "training.tracking",
    "training.log_every_steps",
    "training.max_failures",
    "training.start_timeout_s",
    "training.experts.parallel_size",
)


def read_config() -> NightforgeConfig:
    return load_config(CONFIG, environ={"NIGHTFORGE_STORE": "file:///store", "NIGHTFORGE_WORLD": "/world"})


def change(value: Any) -> Any:
    """Return another value of the same kind, which need not be allowed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return (*value, *value[:1]) if value else ("changed",)
    if isinstance(value, dict):
        return {**value, "changed": 1}
    return f"{value}-changed"


def list_changes(section: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key below a section, and a copy of the section in which that key alone is another."""
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{path}{name}"
        if isinstance(value, BaseModel):
            for below, changed in list_changes(value, f"{key}."):
                yield below, section.model_copy(update={name: changed})
        else:
            yield key, section.model_copy(update={name: change(value)})


def is_below(key: str, names: tuple[str, ...]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def test_every_key_counts_unless_it_is_named_as_an_exception() -> None:
    config = read_config()
    before = json.dumps(list_settings(config))
    counted, exempt = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic names what is not of the field's type
        for key, changed in list_changes(config):
            (counted if json.dumps(list_settings(changed)) != before else exempt).append(key)
    assert [key for key in exempt if not is_below(key, COUNTED_BY_DIGEST + PLACEMENT)] == []
    assert [key for key in counted if is_below(key, COUNTED_BY_DIGEST + PLACEMENT)] == []
    assert {"seed", "training.optimizer.learning_rate", "training.guard.on_spike"} <= set(counted)


def test_every_named_exception_is_a_key() -> None:
    keys = [key for key, _ in list_changes(read_config())]
    assert [name for name in COUNTED_BY_DIGEST + PLACEMENT if not any(is_below(key, (name,)) for key in keys)] == []


def test_what_a_manifest_says_of_the_settings_is_the_seed_and_the_training_section() -> None:
    assert list(list_settings(read_config())) == ["seed", "training"]
