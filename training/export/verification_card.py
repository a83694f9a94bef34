"""The verification card as a file: its name, its form, and how a check says that it failed. Pure, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from voc.errors import IntegrityError

CARD_NAME = "verification.yaml"
CARD_FORMAT = "nightforge/verification/1"


def format_card(card: Mapping[str, Any]) -> str:
    """Return the card as YAML."""
    return yaml.safe_dump(dict(card), sort_keys=False, allow_unicode=True, width=120)


def refuse(
    check: str, problem: str, expected: str, *, kept: str = "nothing was committed; the checkpoint"
) -> IntegrityError:
    """Return the error of an export that failed a check; `kept` says what is left of the try."""
    return IntegrityError(
        f"the export failed its check {check!r}: {problem}",
        expected=expected,
        remedy=f"{kept} is kept, and the same stage repeats the export alone",
    )
