"""The reference of every configuration key, made from the types and descriptions in `voc.config.night`.

`python -m voc describe-config > docs/configuration.md` writes it; a test keeps the committed file current.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from voc.config.data import NAME_PATTERN
from voc.config.night import NightforgeConfig

_HEAD = """\
# Configuration

Made by `python -m voc describe-config` from `voc/config/night.py`: change the descriptions there.

A configuration is one YAML file, read as a whole: an unknown key, a wrong type or a value out of range is an error, and all
mistakes of a file are reported at once. `python -m voc check-config --config FILE` does that and nothing else. In any string
`${NAME}` takes the environment's value, `${NAME:-default}` has a default. A single key is overridden with
`--set training.max_steps=100` or in the trigger form; overrides are taken as they are, without `${...}`.

A *name* is 1 to 60 letters, digits, `_` and `-`, the first a letter or digit.
"""
_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_TYPES = {"integer": "int", "number": "float", "string": "text", "boolean": "true or false", "null": "null"}


_CONTAINERS = {
    "array": ("items", "list of", "list of sections"),
    "object": ("additionalProperties", "mapping of names to", "mapping of names to sections"),
}


def describe_config() -> str:
    """Return the reference as Markdown: one table per section with key, type, default and meaning."""
    schema = NightforgeConfig.model_json_schema()
    parts = [_HEAD]
    for path, section in _walk(schema, schema["$defs"], ""):
        heading = f"## `{path}`" if path else "## Top level"
        rows = [_row(name, field, name in section.get("required", [])) for name, field in section["properties"].items()]
        table = ["| Key | Type | Default | Meaning |", "|---|---|---|---|", *rows]
        parts.append("\n".join([heading, "", section["description"], "", *table, ""]))
    return "\n".join(parts)


def _walk(section: dict[str, Any], definitions: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, section
    for name, field in section["properties"].items():
        reference = _reference(field) or _reference(field.get("items", {}))
        if reference:
            suffix = "" if _reference(field) else "[]"
            yield from _walk(definitions[reference], definitions, f"{path}.{name}{suffix}".lstrip("."))


def _reference(field: dict[str, Any]) -> str | None:
    """Return the section that a field is, or may be instead of null."""
    found = [option["$ref"] for option in [field, *field.get("anyOf", ())] if "$ref" in option]
    return str(found[0]).rpartition("/")[2] if found else None


def _row(name: str, field: dict[str, Any], required: bool) -> str:
    default = "required" if required else "see the section" if "$ref" in field else _show(field.get("default"))
    meaning = field.get("description", "the section below" if _reference(field) else "")
    cells = [f"`{name}`", _type(field), default, meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return "section"
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") in _CONTAINERS:
        return _container(*_CONTAINERS[field["type"]], field)
    bounds = [f"{sign} {field[key]:g}" for key, sign in _BOUNDS.items() if key in field]
    if field.get("pattern") == NAME_PATTERN:
        return "name"
    return " ".join([_TYPES[field["type"]], ", ".join(bounds)]).strip()


def _container(items: str, single: str, several: str, field: dict[str, Any]) -> str:
    if field[items] is True:
        return f"{single} values"
    return several if _reference(field[items]) else f"{single} {_type(field[items])}"


def _show(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value in ([], {}):
        return "none"
    return f"`{value}`"
