"""What an arm draws of each category of a source whose rows are drawn as they occur."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from corpus.draw import SourceRows
from corpus.order import locate_draws
from voc.mixture import MixturePlan, StratumShare


def describe_arm_draws(plan: MixturePlan, figures: Mapping[str, SourceRows]) -> list[dict[str, Any]]:
    """Return the entries of a plan's shares; one of a whole source with categories says what is drawn of each of them.

    Args:
        plan: What the arm draws.
        figures: The usable rows of every source.
    """
    entries = []
    for share in plan.shares:
        entry: dict[str, Any] = {**share.to_json()}
        if share.category is None and len(figures[share.name].category_names) > 1:
            entry["categories"] = _count_categories(share, plan.seed, figures[share.name])
        entries.append(entry)
    return entries


def _count_categories(share: StratumShare, seed: int, rows: SourceRows) -> list[dict[str, Any]]:
    """Return the categories by what is drawn of them, the most first."""
    times, counted = count_draws(share, seed), []
    for number, name in enumerate(rows.category_names):
        chosen = rows.categories == number
        drawn = times[chosen]
        if not len(drawn):
            continue
        num_samples = int(drawn.sum())
        counted.append(
            {
                "category": name,
                "num_rows": len(drawn),
                "num_samples": num_samples,
                "num_tokens": int(drawn @ rows.tokens[chosen]),
                "num_assistant_tokens": int(drawn @ rows.assistant_tokens[chosen]),
                "epochs": num_samples / len(drawn),
                "max_repeats": int(drawn.max()),
                "unused_rows": int((drawn == 0).sum()),
            }
        )
    return sorted(counted, key=lambda entry: (-entry["num_samples"], entry["category"]))


def count_draws(share: StratumShare, seed: int) -> np.ndarray:
    """Return [rows of the stratum] int64 how often each row is drawn."""
    whole_passes, partial = divmod(share.num_samples, share.num_rows)
    last = locate_draws(share, seed, np.arange(share.num_samples - partial, share.num_samples, dtype=np.int64))
    return whole_passes + np.bincount(last, minlength=share.num_rows)
