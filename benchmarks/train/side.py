"""What a side of `vs_trl` reads: where it finds what it trains, and how; and what it notes of every optimizer step.

Imports nothing that costs a side memory.
"""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory import read_pss_bytes

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


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step.

    Attributes:
        loss: Mean over its loss tokens.
        tokens: Tokens of its samples, without padding.
        learned: Its loss tokens.
        slots: Tokens that were computed, padding included.
        wall_s: From the end of the step before to its own end, reading and laying out its samples included.
        cpu_s: CPU time of the process meanwhile.
    """

    loss: float
    tokens: int
    learned: int
    slots: int
    wall_s: float
    cpu_s: float


class StepClock:
    """Notes steps; made before the model is loaded, because it also reads how much memory the imports took."""

    def __init__(self) -> None:
        self._level_bytes = read_pss_bytes(os.getpid())
        self._steps: list[Step] = []
        self._wall_s = self._cpu_s = 0.0

    def start(self) -> None:
        """Begin the first step."""
        self._wall_s, self._cpu_s = time.monotonic(), time.process_time()

    def end_step(self, *, loss: float, tokens: int, learned: int, slots: int) -> None:
        """Note the step that ends now; the next one begins."""
        wall_s, cpu_s = time.monotonic(), time.process_time()
        self._steps.append(Step(loss, tokens, learned, slots, wall_s - self._wall_s, cpu_s - self._cpu_s))
        self._wall_s, self._cpu_s = wall_s, cpu_s

    def to_json(self) -> dict[str, Any]:
        """Return the steps, the memory before the model, and the highest resident set so far."""
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "level_pss_bytes": self._level_bytes,
            "peak_rss_bytes": peak_bytes,
            "steps": [asdict(step) for step in self._steps],
        }
