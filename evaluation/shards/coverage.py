"""Whether a suite's shards, put together, hold every expected item exactly once and asked in the expected words.

Pure. A figure over fewer, other or repeated items looks like any figure, so nothing is computed before this holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from voc.errors import CoverageError

_MAX_LISTED = 5


def list_coverage_problems(suite: str, expected: Mapping[str, str], lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Compare the lines of all shards of one suite with the expected items.

    Args:
        suite: Name for the messages.
        expected: Prompt hash per item id.
        lines: `custom_id` and `prompt_hash` of every line found.

    Returns:
        One sentence per kind of problem: missing, duplicate, foreign ids, other prompts; none if the suite is complete.
    """
    seen = Counter(str(line["custom_id"]) for line in lines)
    other = [
        str(line["custom_id"])
        for line in lines
        if line["custom_id"] in expected and line["prompt_hash"] != expected[line["custom_id"]]
    ]
    found = {
        "missing": [name for name in expected if name not in seen],
        "duplicate": [name for name, times in seen.items() if times > 1],
        "foreign": [name for name in seen if name not in expected],
        "asked with another prompt": other,
    }
    return [
        f"{suite}: {len(names)} of {len(expected)} expected items {kind} ({list_few(names)})"
        if kind != "foreign"
        else f"{suite}: {len(names)} foreign items ({list_few(names)})"
        for kind, names in found.items()
        if names
    ]


def list_few(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def check_coverage(problems: Sequence[str]) -> None:
    """Refuse to go on with what is incomplete.

    Raises:
        CoverageError: With every problem found, over all models and suites.
    """
    if problems:
        raise CoverageError(
            "the evaluation is not complete:\n  - " + "\n  - ".join(problems),
            expected="every expected item exactly once, asked with this run's prompt",
            remedy="run the named suites' shards again; a shard that is finished is not asked again",
        )
