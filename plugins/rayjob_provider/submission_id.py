"""Submission ids: one name for one piece of work, the same on every try, safe in a URL, a file name and an actor name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

MAX_LENGTH = 100
_DIGEST_LENGTH = 12
_VALID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_LENGTH - 1}}}")


def make_submission_id(*parts: object) -> str:
    """Name a job after what it does, so that a retry finds it again.

    Deterministic: equal parts give equal ids, and different parts give different ones, also where their readable
    forms collide (`("a", "b-c")` and `("a-b", "c")`), because the id ends in a hash of the parts.

    Args:
        parts: What makes the work unique, e.g. DAG id, run id, task, model. Everything is turned into text.

    Returns:
        At most 100 characters of `A-Z a-z 0-9 _ . -`: the readable parts, cut where needed, and 12 hex digits.

    Raises:
        ValueError: If there is no part, or one is empty.
    """
    words = [str(part) for part in parts]
    if not words or not all(word.strip() for word in words):
        raise ValueError(
            f"A submission id needs parts that are not empty, got {words!r}; check the templates they come from."
        )
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:_DIGEST_LENGTH]
    readable = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", word).strip("-_.") for word in words)
    readable = re.sub(r"-{2,}", "-", readable).strip("-_.")[: MAX_LENGTH - _DIGEST_LENGTH - 1].rstrip("-_.")
    return f"{readable or 'job'}-{digest}"


def resolve_submission_id(value: str | Sequence[object]) -> str:
    """Return the id an operator should use: a text as it is once checked, a list of parts through `make_submission_id`.

    Raises:
        ValueError: If a text is not a valid id, or the parts are not usable.
    """
    if not isinstance(value, str):
        return make_submission_id(*value)
    if not _VALID.fullmatch(value):
        raise ValueError(
            f"submission_id {value!r} is not usable: expected 1 to {MAX_LENGTH} characters of A-Z a-z 0-9 _ . - that start"
            " with a letter or digit. Give a list of parts instead of a text and a safe id is made from them."
        )
    return value
