"""Whether a file is what its type says: no key missing, none more, every value of its type."""

from typing import Any

from pydantic import ConfigDict, TypeAdapter

from evaluation.results.describe import walk_types


def check_type(kind: type, value: Any) -> None:
    """Raise a ValueError that names every key that is missing, unknown or of another type."""
    for held in walk_types(kind):
        held.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    TypeAdapter(kind).validate_python(value)
