"""Where the sides of `vs_trl` find what they train, and how; imports nothing, so that it costs no side memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SAMPLES, PEER_SAMPLES, PEER_ROWS = "samples", "peer_samples", "peer_rows"
PEER_SIDES = ("trl", "trl_same_rows", "padded", "padded_grouped")
SIDES = ("ours", *PEER_SIDES)
PADDED_MICRO_BATCH = 8  # Trainer's default of per_device_train_batch_size
_NAME = "recipe.json"

Recipe = dict[str, Any]


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the recipe beside the rows."""
    (folder / _NAME).write_text(json.dumps(recipe))


def read_recipe(folder: Path) -> Recipe:
    """Return our training section as JSON (`training`), `samples` and `samples_per_step`."""
    recipe: Recipe = json.loads((folder / _NAME).read_text())
    return recipe


def split_samples(samples_per_step: int) -> tuple[int, int]:
    """Return the padded Trainer's micro batch, near its default, and the micro batches of a step."""
    accumulation = max(1, round(samples_per_step / PADDED_MICRO_BATCH))
    return max(1, round(samples_per_step / accumulation)), accumulation
