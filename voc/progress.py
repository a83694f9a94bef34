"""Periodic progress lines that read well in a terminal and in a task's log.

A bar that redraws itself turns into one endless line in Airflow's log view, so this prints whole lines, at most one every
few seconds.
"""

from __future__ import annotations

import sys
import time
from typing import TextIO

INTERVAL_S = 5.0


class Progress:
    """Counts work and prints a line now and then.

    Args:
        label: What is being done.
        total: Units of work, or None if unknown.
        unit: Name of a unit, for the rate.
        interval_s: Least time between two lines.
    """

    def __init__(
        self, label: str, total: int | None, unit: str, *, interval_s: float = INTERVAL_S, stream: TextIO | None = None
    ) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self._interval_s = interval_s
        self._stream = stream or sys.stdout
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1, **figures: object) -> None:
        """Add finished units; prints if the last line is old enough."""
        self.done += count
        now = time.monotonic()
        if now - self._last >= self._interval_s:
            self._last = now
            self._print(now, figures)

    def finish(self, **figures: object) -> None:
        """Print the last line."""
        self._print(time.monotonic(), figures)

    def _print(self, now: float, figures: dict[str, object]) -> None:
        elapsed_s = max(now - self._start, 1e-9)
        rate = self.done / elapsed_s
        parts = [f"{self.label}: {self.done}/{self.total}" if self.total else f"{self.label}: {self.done}"]
        parts += [f"{rate:.1f} {self.unit}/s", f"elapsed {elapsed_s:.0f} s"]
        if self.total and self.done:
            parts.append(f"ETA {max(self.total - self.done, 0) / rate:.0f} s")
        parts += [f"{name} {value}" for name, value in figures.items()]
        print(", ".join(parts), file=self._stream, flush=True)
