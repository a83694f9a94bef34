"""Loss curves of the sides of a benchmark: smoothed, laid over each other by learned tokens, compared, printed and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

WINDOW_STEPS = 5
_TABLE_LINES = 12
_MAX_COLUMNS = 14

Curve = tuple[np.ndarray, np.ndarray]  # learned tokens up to the middle of the window, mean loss in it


def smooth(steps: Sequence[Mapping[str, Any]], window: int = WINDOW_STEPS) -> Curve:
    """Average the loss per learned token over a moving window of steps.

    Args:
        steps: With `loss`, the mean over the `learned` tokens of the step.
        window: Steps of it; fewer where there are fewer.

    Returns:
        [windows] learned tokens at the middle of each window, and [windows] losses.

    Raises:
        ValueError: If there is no step.
    """
    if not steps:
        raise ValueError("a loss curve without steps")
    window = min(window, len(steps))
    learned = np.array([step["learned"] for step in steps], dtype=np.float64)
    sums = np.array([step["loss"] for step in steps]) * learned
    ones = np.ones(window)
    weights = np.convolve(learned, ones, mode="valid")
    ends = np.cumsum(learned)[window - 1 :]
    return ends - weights / 2, np.convolve(sums, ones, mode="valid") / weights


def align(curves: Mapping[str, Curve]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read all curves at the places of the first one that every curve reaches.

    Raises:
        ValueError: If there is no such place.
    """
    first = next(iter(curves.values()))[0]
    low, high = max(x[0] for x, _ in curves.values()), min(x[-1] for x, _ in curves.values())
    places = first[(first >= low) & (first <= high)]
    if not places.size:
        raise ValueError(f"the curves {', '.join(curves)} have no place in common. To do: take more steps.")
    return places, {name: np.interp(places, x, y) for name, (x, y) in curves.items()}


def compare(one: Curve, other: Curve) -> dict[str, float]:
    """Return the largest and the last difference (`other` less `one`) of two smoothed curves."""
    places, found = align({"one": one, "other": other})
    differences = found["other"] - found["one"]
    worst = int(np.argmax(np.abs(differences)))
    return {
        "largest": round(float(differences[worst]), 5),
        "at_learned_tokens": round(float(places[worst])),
        "last": round(float(differences[-1]), 5),
    }


def format_curves(curves: Mapping[str, Curve]) -> str:
    """Return the curves as a table of learned tokens."""
    places, found = align(curves)
    chosen = np.unique(np.linspace(0, len(places) - 1, min(_TABLE_LINES, len(places))).round().astype(int))
    lines = ["learned tokens".rjust(_MAX_COLUMNS) + "".join(name.rjust(_MAX_COLUMNS + 2) for name in found)]
    for index in chosen:
        values = "".join(f"{values[index]:.4f}".rjust(_MAX_COLUMNS + 2) for values in found.values())
        lines.append(f"{places[index]:.0f}".rjust(_MAX_COLUMNS) + values)
    return "\n".join(lines)


def draw_curves(curves: Mapping[str, Curve], path: Path) -> None:
    """Write the smoothed curves as a picture; the suffix says the format."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for name, (places, losses) in curves.items():
        axes.plot(places, losses, label=name)
    axes.set_xlabel("learned tokens")
    axes.set_ylabel(f"loss per learned token, mean of {WINDOW_STEPS} steps")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
