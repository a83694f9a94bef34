"""The JSON schema that constrains answers to the taxonomy (structured output). Pure.

A small taxonomy becomes one alternative per leaf, so that only whole paths can be written. A large one would make a grammar
of thousands of alternatives: there each level is restricted to the names that the taxonomy has at that level, and a path
that mixes names of different branches is still possible (the invented-label rate counts it).
"""

from __future__ import annotations

from typing import Any

from voc.responses import KEYS
from voc.taxonomy import LEVELS, LabelPath, Taxonomy

MAX_LEAVES_AS_PATHS = 200


def build_response_format(taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the `response_format` of a chat request."""
    schema = {"type": "array", "items": build_segment_schema(taxonomy)}
    return {"type": "json_schema", "json_schema": {"name": "segments", "strict": True, "schema": schema}}


def build_segment_schema(taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the schema of one segment, keys in the contract's order."""
    if len(taxonomy.leaves) <= MAX_LEAVES_AS_PATHS:
        return {"anyOf": [_describe_object({n: [v] for n, v in _name(leaf.path).items()}) for leaf in taxonomy.leaves]}
    paths = [_name(leaf.path) for leaf in taxonomy.leaves]
    return _describe_object({level: list(dict.fromkeys(path[level] for path in paths)) for level in LEVELS})


def _name(path: LabelPath) -> dict[str, str]:
    return dict(zip(LEVELS, path, strict=True))


def _describe_object(names: dict[str, list[str]]) -> dict[str, Any]:
    properties = {key: {"type": "string", "enum": names[key]} if key in names else {"type": "string"} for key in KEYS}
    return {"type": "object", "properties": properties, "required": list(KEYS), "additionalProperties": False}
