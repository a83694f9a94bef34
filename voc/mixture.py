"""How many rows each source gives to a training run, which ones, and in which order.

The plan is exact and small: counts and seeds, written to `mixture.json` before anything expensive starts. The order is
derived from it, is the same for every number of workers, and can be entered at any position.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from voc.errors import MixtureError

Unit = Literal["samples", "tokens"]


@dataclass(frozen=True, slots=True)
class SourceShare:
    """What one source gives.

    Attributes:
        name: Source.
        num_rows: Usable rows that the source has.
        weight: Share of the final mixture, 0..1.
        num_samples: Rows drawn, repeats included.
        num_tokens: Tokens of the rows drawn, or None when the unit is samples.
    """

    name: str
    num_rows: int
    weight: float
    num_samples: int
    num_tokens: int | None

    @property
    def epochs(self) -> float:
        """How often the source is seen."""
        return self.num_samples / self.num_rows


@dataclass(frozen=True, slots=True)
class MixturePlan:
    """One arm's mixture."""

    unit: Unit
    num_samples: int
    seed: int
    shares: tuple[SourceShare, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `mixture.json` holds."""
        return {
            "unit": self.unit,
            "num_samples": self.num_samples,
            "seed": self.seed,
            "sources": [
                {
                    "name": s.name,
                    "num_rows": s.num_rows,
                    "weight": s.weight,
                    "num_samples": s.num_samples,
                    "num_tokens": s.num_tokens,
                    "epochs": s.epochs,
                }
                for s in self.shares
            ],
        }


def parse_mixture(value: Mapping[str, Any]) -> MixturePlan:
    """Read what `MixturePlan.to_json` wrote."""
    shares = tuple(
        SourceShare(s["name"], s["num_rows"], s["weight"], s["num_samples"], s["num_tokens"]) for s in value["sources"]
    )
    return MixturePlan(value["unit"], value["num_samples"], value["seed"], shares)


def plan_mixture(
    num_rows: Mapping[str, int], weights: Mapping[str, float], *, num_samples: int, seed: int
) -> MixturePlan:
    """Decide how many rows each source gives to one training run, weights counted in samples.

    Shares are exact: they sum to `num_samples` (largest remainder). A source with fewer rows than its share is repeated in
    whole passes, then sampled without replacement, so no row appears more than one time more than another.

    Args:
        num_rows: Usable rows per source, after filtering.
        weights: Share of the final mixture per source; normalised, so only ratios matter.
        num_samples: Rows of the final mixture, repeats included.
        seed: Seed of selection and order.

    Raises:
        MixtureError: If a weighted source has no rows, or a weight is not a finite number greater than 0.
    """
    _check(num_rows, weights, num_samples)
    exact = _normalise(weights)
    counts = _largest_remainder(exact, num_samples)
    shares = tuple(SourceShare(n, num_rows[n], float(exact[n]), counts[n], None) for n in weights)
    return MixturePlan("samples", num_samples, seed, shares)


def plan_token_mixture(
    row_tokens: Mapping[str, Sequence[int]], weights: Mapping[str, float], *, num_samples: int, seed: int
) -> MixturePlan:
    """Decide the same with weights counted in tokens.

    Rows are drawn one at a time, each from the source that is furthest below its share of the tokens drawn so far (its
    next row in its own seeded order). So no source ends more than one of its own rows above its exact share, and none ends
    further below it than one row of each other source.

    Args:
        row_tokens: Tokens of every usable row, per source.
        weights: Share of the final mixture's tokens per source; normalised.
        num_samples: Rows of the final mixture, repeats included.
        seed: Seed of selection and order.

    Raises:
        MixtureError: As `plan_mixture`.
    """
    num_rows = {name: len(tokens) for name, tokens in row_tokens.items()}
    _check(num_rows, weights, num_samples)
    share = {name: max(float(exact), sys.float_info.min) for name, exact in _normalise(weights).items()}
    drawn = dict.fromkeys(weights, 0)
    tokens = dict.fromkeys(weights, 0)
    passes: dict[str, list[int]] = {}
    for _ in range(num_samples):
        name = min(weights, key=lambda n: (tokens[n] / share[n], n))
        epoch, position = divmod(drawn[name], num_rows[name])
        if position == 0:
            passes[name] = _pass_order(num_rows[name], seed, name, epoch)
        tokens[name] += row_tokens[name][passes[name][position]]
        drawn[name] += 1
    shares = tuple(SourceShare(n, num_rows[n], share[n], drawn[n], tokens[n]) for n in weights)
    return MixturePlan("tokens", num_samples, seed, shares)


def draw_order(plan: MixturePlan) -> list[tuple[int, int]]:
    """Return the run's samples in training order, as (source index, row index in the source)."""
    order: list[tuple[int, int]] = []
    for index, share in enumerate(plan.shares):
        for epoch in range(math.ceil(share.num_samples / share.num_rows)):
            rows = _pass_order(share.num_rows, plan.seed, share.name, epoch)
            order += [(index, row) for row in rows[: share.num_samples - epoch * share.num_rows]]
    random.Random(f"{plan.seed}/order").shuffle(order)
    return order


def _pass_order(num_rows: int, seed: int, name: str, epoch: int) -> list[int]:
    rows = list(range(num_rows))
    random.Random(f"{seed}/{name}/{epoch}").shuffle(rows)
    return rows


def _normalise(weights: Mapping[str, float]) -> dict[str, Fraction]:
    total = sum(map(Fraction, weights.values()))
    return {name: Fraction(weight) / total for name, weight in weights.items()}


def _largest_remainder(shares: Mapping[str, Fraction], total: int) -> dict[str, int]:
    counts = {name: math.floor(share * total) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (counts[name] - shares[name] * total, name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _check(num_rows: Mapping[str, int], weights: Mapping[str, float], num_samples: int) -> None:
    if not weights:
        raise MixtureError("the mixture has no sources", expected="at least one source with a weight")
    if num_samples < 1:
        raise MixtureError(f"the mixture asks for {num_samples} samples", expected="at least 1")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise MixtureError(f"the weight of {name!r} is {weight}", expected="a finite number greater than 0")
        if num_rows.get(name, 0) < 1:
            raise MixtureError(
                f"the source {name!r} has no usable rows",
                expected="at least one row after filtering",
                remedy="check its file and the quarantine, or leave it out of the arm",
            )
