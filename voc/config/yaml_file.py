"""Read a YAML file that holds one mapping, strictly: a key that appears twice is an error."""

from __future__ import annotations

from typing import Any

import yaml

from voc.errors import ConfigError
from voc.store.uri import read_uri


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
