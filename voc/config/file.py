"""From a YAML file (and overrides from a trigger form) to a checked configuration, and its hash.

Every mistake of a file is reported at once, each with its key path, the value seen and the nearest known key.
"""

from __future__ import annotations

import argparse
import copy
import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from voc.arguments import parse_overrides
from voc.config.night import NightforgeConfig
from voc.config.presets import merge, read_preset
from voc.config.training import TrainingConfig
from voc.config.yaml_file import read_mapping
from voc.errors import ConfigError
from voc.store.manifest import digest_json

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


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
