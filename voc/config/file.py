"""From a YAML file (and overrides from a trigger form) to a checked configuration, and its hash.

Every mistake of a file is reported at once, each with its key path, the value seen and the nearest known key. A key that appears
twice is one of them.

A configuration may name a preset of its model with `preset: qwen3-8b`: a recipe of training settings, the architecture that it
is for, and the memory plan that it was chosen by. The file's own keys win over the preset's. What comes out is checked and saved
in the run as a whole, so a run never depends on a preset file that may change.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from voc.arguments import parse_overrides
from voc.config.night import NightforgeConfig
from voc.config.training import TrainingConfig
from voc.errors import ConfigError
from voc.store.manifest import digest_json
from voc.store.uri import read_uri

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
PRESET_FOLDER = Path(__file__).resolve().parents[2] / "configs" / "models"
_SECTIONS = ("architecture", "training", "memory_plan")


def load_config(
    path: str | Path, *, overrides: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> NightforgeConfig:
    """Read and check a configuration file.

    Args:
        path: A path or URI of a YAML file.
        overrides: Dotted keys and their new values, such as `{"training.max_steps": 100}`.
        environ: Values for `${NAME}`; the process environment by default.

    Raises:
        ConfigError: If the file cannot be read, is not a mapping, or has mistakes; all of them are listed.
    """
    tree = _add_preset(read_mapping(str(path)), overrides or {})
    missing: dict[str, str] = {}
    tree = _expand(tree, os.environ if environ is None else environ, "", missing)
    for key, value in (overrides or {}).items():  # after the expansion: a form must not read the environment's secrets
        _set_key(tree, key, value)
        missing.pop(key, None)
    if missing:
        raise ConfigError(
            f"{path}: {'; '.join(missing.values())}", remedy="set the variable, or write ${NAME:-default}"
        )
    return check_config(tree, str(path))


def load_chosen_config(arguments: argparse.Namespace) -> NightforgeConfig:
    """Read the configuration that a command line names (`voc.arguments.CONFIG_ARGUMENTS`).

    Raises:
        ConfigError: If a value of `--set` cannot be read, or with everything that is wrong in the file.
    """
    return load_config(arguments.config, overrides=parse_overrides(arguments.set))


def check_config(tree: Mapping[str, Any], origin: str) -> NightforgeConfig:
    """Check a plain mapping and report all mistakes together.

    Raises:
        ConfigError: If there is any.
    """
    try:
        return NightforgeConfig.model_validate(tree)
    except ValidationError as error:
        raise _list_mistakes(error, origin) from error


def dump_config(config: NightforgeConfig) -> bytes:
    """Return the configuration as canonical JSON, with its hash beside it."""
    tree = config.model_dump(mode="json")
    document = {"hash": hash_config(config), "config": tree}
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def parse_config(data: bytes, origin: str) -> NightforgeConfig:
    """Read what `dump_config` wrote.

    Raises:
        ConfigError: If it does not fit this version's keys, or its hash does not match.
    """
    try:
        document = json.loads(data)
        tree, stated = document["config"], document["hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{origin} is damaged: {error!r}", remedy="start a new run") from error
    config = check_config(tree, origin)
    if hash_config(config) != stated:
        raise ConfigError(f"{origin} does not match its own hash", remedy="it was edited by hand: start a new run")
    return config


def hash_config(config: NightforgeConfig) -> str:
    """Return the SHA-256 of the canonical form."""
    return digest_json(config.model_dump(mode="json"))


def load_training(path: str, *, overrides: Mapping[str, Any]) -> TrainingConfig:
    """Read and check the training section of a configuration file, whatever the rest of it needs from the environment.

    Raises:
        ConfigError: If the file cannot be read or the section has mistakes.
    """
    return parse_training(_add_preset(read_mapping(path), overrides), path, overrides=overrides)


def parse_training(tree: Mapping[str, Any], origin: str, *, overrides: Mapping[str, Any]) -> TrainingConfig:
    """Check the training section of a plain mapping.

    Raises:
        ConfigError: If it has mistakes.
    """
    section = {"training": copy.deepcopy(tree.get("training"))}
    for key, value in overrides.items():
        _set_key(section, key, value)
    try:
        return _TrainingOnly.model_validate(section).training
    except ValidationError as error:
        raise _list_mistakes(error, origin) from error


class _TrainingOnly(BaseModel):
    training: TrainingConfig


def _list_mistakes(error: ValidationError, origin: str) -> ConfigError:
    lines = [_describe(dict(item)) for item in error.errors()]
    return ConfigError(
        f"{origin} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}:\n  - " + "\n  - ".join(lines),
        remedy="docs/configuration.md lists every key",
    )


def _add_preset(tree: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the training section over that of the preset which it names."""
    name = overrides.get("preset", tree.get("preset"))
    if name is None:
        return tree
    if not isinstance(name, str):
        raise ConfigError(f"preset is {name!r}", expected="a name of configs/models, or a path or URI")
    own = tree.get("training")
    if own is not None and not isinstance(own, dict):
        return tree  # a mistake that the check names
    return {**tree, "training": merge(read_preset(name).training, own or {})}


def _set_key(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"the override {dotted!r} goes through {part!r}, which is not a section")
    tree[last] = value


def _expand(value: Any, environ: Mapping[str, str], where: str, missing: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, environ, f"{where}.{k}".lstrip("."), missing) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, environ, f"{where}[{i}]", missing) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name not in environ and default is None:
            missing[where] = f"{where} needs the environment variable {name}, which is not set"
        return environ.get(name, default or "")

    return _VARIABLE.sub(substitute, value)


def _describe(item: dict[str, Any]) -> str:
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in item["loc"]).lstrip(".")
    if item["type"] == "extra_forbidden":
        name = str(item["loc"][-1])
        known = _known_keys(item["loc"][:-1])
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{where}: missing, and it has no default"
    seen = item.get("input")
    shown = f" (seen: {seen!r})" if isinstance(seen, str | int | float | bool | None) else ""
    return f"{where or 'the whole'}: {item['msg'].removeprefix('Value error, ')}{shown}"


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = NightforgeConfig
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            candidates = [model.model_fields[part].annotation, *get_args(model.model_fields[part].annotation)]
            model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return sorted(model.model_fields)


def read_mapping(uri: str) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: If it is not readable YAML or not a mapping.
        ObjectNotFoundError: If it is not there.
    """
    try:
        tree = yaml.load(read_uri(uri).decode(), Loader=_UniqueKeyLoader)  # noqa: S506 -- a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{uri} is not readable YAML: {error}", remedy="correct the file") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{uri} holds {type(tree).__name__}", expected="a mapping of configuration keys")
    return tree


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that appears twice in one mapping, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} appears twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


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
