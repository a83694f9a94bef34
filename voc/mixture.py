"""How many rows each source and category gives to a training run.

The plan is exact and small: counts and a seed, written to `mixture.json` before anything expensive starts. Which rows, and
in which order, follows from it alone (`corpus.mixing.order`). Weights counted in tokens are planned in `corpus.mixing.draw`.

Source: largest remainder (Hamilton's method), Balinski and Young, "Fair Representation", 1982.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple, Protocol

from voc.errors import MixtureError

Unit = Literal["samples", "tokens", "assistant_tokens"]
Sampling = Literal["over", "under", "once"]


class Stratum(NamedTuple):
    """Rows that share one weight: a category of a source, or (category None) a whole source, its rows as they occur."""

    source: str
    category: str | None = None

    def __str__(self) -> str:
        return self.source if self.category is None else f"{self.source}/{self.category}"


class WeightedSource(Protocol):
    """A source's part of a mixture; `voc.config.night.SourceWeight` is one."""

    @property
    def name(self) -> str:
        """The source."""

    @property
    def weight(self) -> float:
        """Share of the final mixture; only ratios matter."""

    @property
    def categories(self) -> Mapping[str, float]:
        """Shares of its categories inside its own share; empty: rows as they occur."""


@dataclass(frozen=True, slots=True)
class StratumShare:
    """What one stratum gives.

    Attributes:
        name: Source.
        category: Category of the source, or None for the whole source.
        weight: Share of the final mixture, 0..1.
        num_rows: Usable rows that the stratum has.
        num_samples: Rows drawn, repeats included.
        num_tokens: Tokens of the rows drawn, or None where they were not counted.
        num_assistant_tokens: Of these, tokens that are learned, or None.
        residual_tokens: What the weights count (tokens or assistant tokens) above the exact share; negative: below it.
            None when the unit is samples.
        swaps: Pairs (drawn, undrawn) of draws in the last pass: the row of the second is taken in place of the row of the
            first, so that the tokens come out exact.
    """

    name: str
    category: str | None
    weight: float
    num_rows: int
    num_samples: int
    num_tokens: int | None = None
    num_assistant_tokens: int | None = None
    residual_tokens: int | None = None
    swaps: tuple[tuple[int, int], ...] = ()

    @property
    def stratum(self) -> Stratum:
        """The stratum's name."""
        return Stratum(self.name, self.category)

    @property
    def epochs(self) -> float:
        """How often the stratum is seen."""
        return self.num_samples / self.num_rows

    @property
    def max_repeats(self) -> int:
        """How often its most seen row is seen; no other row is seen more than once less."""
        return -(-self.num_samples // self.num_rows)

    @property
    def unused_rows(self) -> int:
        """Rows that are never drawn."""
        return max(0, self.num_rows - self.num_samples)

    @property
    def sampling(self) -> Sampling:
        """Whether rows are repeated (over), left out (under), or each is drawn exactly once."""
        if self.num_samples == self.num_rows:
            return "once"
        return "over" if self.num_samples > self.num_rows else "under"

    def to_json(self) -> dict[str, Any]:
        """Return its entry in `mixture.json`."""
        return {
            "name": self.name,
            "category": self.category,
            "weight": self.weight,
            "num_rows": self.num_rows,
            "num_samples": self.num_samples,
            "num_tokens": self.num_tokens,
            "num_assistant_tokens": self.num_assistant_tokens,
            "residual_tokens": self.residual_tokens,
            "epochs": self.epochs,
            "max_repeats": self.max_repeats,
            "unused_rows": self.unused_rows,
            "sampling": self.sampling,
            "swaps": [list(pair) for pair in self.swaps],
        }


@dataclass(frozen=True, slots=True)
class MixturePlan:
    """One arm's mixture."""

    unit: Unit
    num_samples: int
    seed: int
    shares: tuple[StratumShare, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `mixture.json` holds."""
        return {
            "unit": self.unit,
            "num_samples": self.num_samples,
            "seed": self.seed,
            "sources": [share.to_json() for share in self.shares],
        }


def parse_mixture(value: Mapping[str, Any]) -> MixturePlan:
    """Read what `MixturePlan.to_json` wrote; what follows from the counts is computed again."""
    shares = tuple(_parse_share(entry) for entry in value["sources"])
    return MixturePlan(value["unit"], value["num_samples"], value["seed"], shares)


def plan_mixture(
    num_rows: Mapping[Stratum, int], sources: Sequence[WeightedSource], *, num_samples: int, seed: int
) -> MixturePlan:
    """Decide how many rows each stratum gives to one training run, weights counted in samples.

    Counts are exact at both levels: the sources' sum to `num_samples`, the categories' to their source's count, and none is
    a whole row away from its exact share. A stratum with fewer rows than its count is repeated in whole passes, then
    sampled without replacement, so no row appears more than one time more than another.

    Args:
        num_rows: Usable rows after filtering, per source or per category of a source. A source whose categories have no
            weights of their own is one stratum, with the rows of all its entries.
        sources: Weights; only ratios matter, at each level.
        num_samples: Rows of the final mixture, repeats included.
        seed: Seed of selection and order.

    Raises:
        MixtureError: With everything that is wrong: no source, a source given twice, a weight that is not a finite number
            greater than 0, a weighted stratum that has no rows, a category that the source does not have.
    """
    check_weights(sources, num_rows, num_samples)
    counts = apportion(sources, num_samples)
    shares = tuple(
        StratumShare(*stratum, float(share), count_rows(num_rows, stratum), counts[stratum])
        for stratum, share in compute_shares(sources).items()
    )
    return MixturePlan("samples", num_samples, seed, shares)


def compute_shares(sources: Sequence[WeightedSource]) -> dict[Stratum, Fraction]:
    """Return each stratum's exact share of the whole, in the order of the sources and of their categories."""
    of_source = _normalise({source.name: source.weight for source in sources})
    return {
        stratum: of_source[source.name] * share
        for source in sources
        for stratum, share in _split_source(source).items()
    }


def apportion(sources: Sequence[WeightedSource], total: int) -> dict[Stratum, int]:
    """Split a number of units by weight: first over the sources, then each source's units over its categories.

    At both levels the parts sum to the whole and each is less than one unit away from its exact share.
    """
    of_source = _largest_remainder(_normalise({source.name: source.weight for source in sources}), total)
    parts: dict[Stratum, int] = {}
    for source in sources:
        shares = _split_source(source)
        counts = _largest_remainder({str(stratum): share for stratum, share in shares.items()}, of_source[source.name])
        parts |= {stratum: counts[str(stratum)] for stratum in shares}
    return parts


def count_rows(num_rows: Mapping[Stratum, int], stratum: Stratum) -> int:
    """Return the rows of a stratum: of its entry, or for a whole source of all the source's entries."""
    if stratum.category is not None:
        return num_rows.get(stratum, 0)
    return sum(count for key, count in num_rows.items() if key.source == stratum.source)


def describe_odd_sums(sources: Sequence[WeightedSource]) -> list[str]:
    """Say which weights sum to neither 1 nor 100, as shares and percents do: perhaps their writer meant something else."""
    groups = {"the weights of the sources": {source.name: source.weight for source in sources}}
    groups |= {f"the categories of {source.name}": dict(source.categories) for source in sources if source.categories}
    sums = {what: sum(weights.values()) for what, weights in groups.items()}
    return [
        f"{what} sum to {total:g}, not to 1 or 100; each counts as its share of that sum"
        for what, total in sums.items()
        if not any(math.isclose(total, whole, rel_tol=1e-6) for whole in (1, 100))
    ]


def check_weights(sources: Sequence[WeightedSource], num_rows: Mapping[Stratum, int], num_samples: int) -> None:
    """Check that a mixture can be drawn.

    Raises:
        MixtureError: With all reasons for which it cannot.
    """
    problems = [
        *_find_bad_weights(sources),
        *(problem for source in sources for problem in _find_missing_rows(source, num_rows)),
    ]
    if not sources:
        problems.append("the mixture has no sources")
    if num_samples < 1:
        problems.append(f"the mixture asks for {num_samples} samples")
    if problems:
        raise MixtureError(
            "; ".join(problems),
            expected="weights that are finite numbers greater than 0, on sources and categories with rows after filtering",
            remedy="correct the arm's sources; where rows are missing, see the source's file and the quarantine",
        )


def _find_bad_weights(sources: Sequence[WeightedSource]) -> Iterator[str]:
    names = [source.name for source in sources]
    yield from (f"the source {name!r} is given twice" for name in sorted({n for n in names if names.count(n) > 1}))
    for source in sources:
        weights = {Stratum(source.name): source.weight}
        weights |= {Stratum(source.name, category): weight for category, weight in source.categories.items()}
        for stratum, weight in weights.items():
            if not (math.isfinite(weight) and weight > 0):
                yield f"the weight of '{stratum}' is {weight}"


def _find_missing_rows(source: WeightedSource, num_rows: Mapping[Stratum, int]) -> Iterator[str]:
    if not count_rows(num_rows, Stratum(source.name)):
        yield f"the source {source.name!r} has no usable rows"
        return
    found = {key.category: count for key, count in num_rows.items() if key.source == source.name and count}
    named = ", ".join(f"{category} ({count} rows)" for category, count in found.items() if category is not None)
    for category in source.categories:
        if category not in found:
            yield f"the source {source.name!r} has no rows of category {category!r}; it has {named or 'no categories'}"


def _split_source(source: WeightedSource) -> dict[Stratum, Fraction]:
    if not source.categories:
        return {Stratum(source.name): Fraction(1)}
    return {Stratum(source.name, name): share for name, share in _normalise(source.categories).items()}


def _normalise(weights: Mapping[str, float]) -> dict[str, Fraction]:
    total = sum(map(Fraction, weights.values()))
    return {name: Fraction(weight) / total for name, weight in weights.items()}


def _largest_remainder(shares: Mapping[str, Fraction], total: int) -> dict[str, int]:
    counts = {name: math.floor(share * total) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (counts[name] - shares[name] * total, name))
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _parse_share(entry: Mapping[str, Any]) -> StratumShare:
    return StratumShare(
        entry["name"],
        entry["category"],
        entry["weight"],
        entry["num_rows"],
        entry["num_samples"],
        entry["num_tokens"],
        entry["num_assistant_tokens"],
        entry["residual_tokens"],
        tuple((drawn, undrawn) for drawn, undrawn in entry["swaps"]),
    )
