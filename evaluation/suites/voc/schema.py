"""The JSON schema that constrains answers to the taxonomy (structured output), and how a row says what decoding it had. Pure.

The schema has one alternative per L3 node: its L1, L2 and L3 are fixed and its L4 is an enum of the leaves below it, so a path
that mixes names of different branches cannot be written, whatever the size of the taxonomy. The price is time per token, because
an engine has to follow all alternatives while the content is written (docs/log.md has the figures).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from voc.config.night import VocSuiteConfig
from voc.errors import IntegrityError
from voc.labels.taxonomy import LEVELS, Taxonomy
from voc.responses import KEYS
from voc.store.manifest import Manifest, digest_json


def build_response_format(taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the `response_format` of a chat request.

    Source: https://platform.openai.com/docs/guides/structured-outputs.
    """
    schema = {"type": "array", "items": build_segment_schema(taxonomy)}
    return {"type": "json_schema", "json_schema": {"name": "segments", "strict": True, "schema": schema}}


def build_segment_schema(taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the schema of one segment, keys in the contract's order."""
    leaves: dict[tuple[str, ...], list[str]] = {}
    for leaf in taxonomy.leaves:
        leaves.setdefault(leaf.path[:-1], []).append(leaf.path[-1])
    return {
        "anyOf": [
            _describe_object(dict(zip(LEVELS, [*([name] for name in parent), names], strict=True)))
            for parent, names in leaves.items()
        ]
    }


def describe_decoding(suite: VocSuiteConfig, taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the settings that a row of VOC figures has to declare: answers under other ones are another row."""
    return {
        "structured_output": suite.structured_output,
        "schema_hash": digest_json(build_response_format(taxonomy)) if suite.structured_output else None,
        "max_tokens": suite.max_tokens,
        "temperature": 0,
    }


def check_decoding(shards: Sequence[Manifest], decoding: Mapping[str, Any], model: str) -> None:
    """Make sure that a model's answers were asked for as this run's row declares.

    Raises:
        IntegrityError: If a shard says otherwise; imported answers say nothing.
    """
    for number, manifest in enumerate(shards):
        seen = manifest.inputs.get("decoding", decoding)
        if seen != dict(decoding):
            raise IntegrityError(
                f"{model}, voc: shard {number} of {len(shards)} was answered with {json.dumps(seen)}",
                expected=json.dumps(dict(decoding)),
                remedy="run the suite's shards again: a row holds answers of one kind of decoding",
            )


def _describe_object(names: dict[str, list[str]]) -> dict[str, Any]:
    properties = {key: {"type": "string", "enum": names[key]} if key in names else {"type": "string"} for key in KEYS}
    return {"type": "object", "properties": properties, "required": list(KEYS), "additionalProperties": False}
