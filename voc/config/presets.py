"""Presets of models: a recipe of training settings, the architecture that it is for, the memory plan that it was chosen by.

A configuration names one with `preset: qwen3-8b`; its own keys win over the preset's. What comes out is checked and saved in
the run as a whole, so a run never depends on a preset file that may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc.config.yaml_file import read_mapping
from voc.errors import ConfigError

PRESET_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "models"
_SECTIONS = ("architecture", "training", "memory_plan")


@dataclass(frozen=True, slots=True)
class Preset:
    """One file of `configs/models`.

    Attributes:
        origin: Its address.
        architecture: The numbers of the model's config.json that shapes follow from.
        training: Keys of the configuration's training section.
        memory_plan: The machine (`nodes`, `gpus_per_node`, `gpu_memory_gib`) and the predicted peak (`peak_gib`) per GPU.
    """

    origin: str
    architecture: dict[str, Any]
    training: dict[str, Any]
    memory_plan: dict[str, Any]


def list_presets() -> list[str]:
    """Return the names of the shipped presets."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.yaml"))


def read_preset(reference: str) -> Preset:
    """Read a preset by its name, or by the path or URI of a file of the same form.

    Raises:
        ConfigError: If there is none, or its sections are not those of a preset.
        ObjectNotFoundError: If the file does not exist.
    """
    names = list_presets()
    is_address = "/" in reference or reference.endswith((".yaml", ".yml"))
    if not is_address and reference not in names:
        raise ConfigError(
            f"there is no preset {reference!r}", expected=f"one of {', '.join(names)}, or the path or URI of a file"
        )
    origin = reference if is_address else str(PRESET_FOLDER / f"{reference}.yaml")
    tree = read_mapping(origin)
    wrong = sorted(set(tree) ^ set(_SECTIONS)) + [
        name for name in _SECTIONS if not isinstance(tree.get(name, {}), dict)
    ]
    if wrong:
        raise ConfigError(
            f"the preset {origin} is wrong in {', '.join(wrong)}",
            expected=f"the sections {', '.join(_SECTIONS)} and no others, each a mapping",
        )
    return Preset(origin, tree["architecture"], tree["training"], tree["memory_plan"])


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one tree over another: sections are merged key by key, anything else is replaced."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
