from __future__ import annotations

from pathlib import Path

from voc.config.reference import describe_config


def test_the_committed_reference_is_current(repository: Path) -> None:
    committed = (repository / "docs" / "configuration.md").read_text()
    assert committed == describe_config(), "run `python -m voc describe-config > docs/configuration.md`"


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in describe_config().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row for row in rows if not row.rstrip(" |").rpartition(" | ")[2].strip()] == []


def test_types_bounds_and_defaults_are_shown() -> None:
    text = describe_config()
    assert "| `max_steps` | int > 0 | required |" in text
    assert "| `confidence` | float > 0.5, < 1 | `0.95` |" in text
    assert "| `limit` | int > 0 or null | unset |" in text
    assert "| `enforce_eager` | true or false | `false` |" in text
    assert "| `data_mixing` | mapping of names to values or null | unset |" in text
    assert "## `arms[].sources[]`" in text
