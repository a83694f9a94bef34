"""The arms of the configuration tree: how each candidate's data are mixed, in our words or in the closed service's.

The closed service's block is `data_mixing`: what a mixture is called there is read and written here.

Source: the service's recipe for data mixing: `customer_data.percent` is the customer's share of the whole, the categories of
`nova_data` sum to 100 and share the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from voc.config.data import DataConfig, Name, Section
from voc.errors import ConfigError

SERVICE_CATEGORIES = tuple(
    "agents baseline chat code factuality identity long-context math rai instruction-following stem planning "  # noqa: SIM905
    "reasoning-chat reasoning-code reasoning-factuality reasoning-instruction-following reasoning-math "
    "reasoning-planning reasoning-rag reasoning-rai reasoning-stem rag translation".split()
)
_CUSTOMER = "sources.customer_data"
_GENERAL = "sources.nova_data"
_SUM_TOLERANCE = 1e-6
_UNITS_PER_PERCENT = 10**6


class SourceWeight(Section):
    """A source's share of an arm's mixture."""

    name: Name = Field(description="one of data.sources")
    weight: float = Field(gt=0, description="share of the final mixture; only ratios matter")
    categories: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="shares of the source's categories inside its own share; empty: as they occur"
    )


class ArmConfig(Section):
    """One way to mix the data, by its `sources` or by a `data_mixing` block; each arm trains one candidate."""

    name: Name = Field(description="name of the candidate")
    title: str = Field(description="how tables call it")
    unit: Literal["samples", "tokens", "assistant_tokens"] = Field("samples", description="what the weights count")
    sources: tuple[SourceWeight, ...] = Field(
        (), min_length=1, description="shares of the mixture; required where data_mixing is not given"
    )
    data_mixing: dict[str, Any] | None = Field(
        None,
        description="in place of sources: the block of the closed service's recipe as it is (dataset_catalog; sources with "
        "customer_data.percent and percents of categories in nova_data); customer_data is the one source with format voc, "
        "nova_data the one with format general",
    )

    @field_validator("data_mixing")
    @classmethod
    def _check_block(cls, block: dict[str, Any] | None) -> dict[str, Any] | None:
        if block is not None:
            try:
                parse_data_mixing(block, needs_customer=True)
            except ConfigError as error:
                raise ValueError(error.problem) from error
        return block

    @model_validator(mode="after")
    def _check_one_form(self) -> ArmConfig:
        if bool(self.sources) == (self.data_mixing is not None):
            seen = "both sources and data_mixing are" if self.sources else "neither sources nor data_mixing is"
            raise ValueError(f"{seen} given, expected exactly one of them")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_follows(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the form that was given, so that what is saved can be read again."""
        tree: dict[str, Any] = handler(self)
        tree.pop("data_mixing" if self.data_mixing is None else "sources", None)
        return tree


def derive_arm(arm: ArmConfig, data: DataConfig, problems: list[str]) -> ArmConfig:
    """Return an arm with the sources that its `data_mixing` block stands for.

    Args:
        arm: An arm with a block that was checked.
        data: Where the sources are.
        problems: What is wrong is added here.
    """
    percent, percents = parse_data_mixing(arm.data_mixing)
    parts: list[tuple[str, str, float, dict[str, float]]] = [("voc", "customer_data", percent, {})]
    if not is_customer_only(percent):
        categories = {name: share for name, share in percents.items() if share}
        parts.append(("general", "nova_data", 100 - percent, categories))
    weights = []
    for kind, block_name, weight, categories in parts:
        names = [source.name for source in data.sources if source.format == kind]
        if len(names) == 1:
            # Percents, not ratios: whole numbers stay exact.
            weights.append(SourceWeight(name=names[0], weight=weight, categories=categories))
            continue
        seen = f"{len(names)} sources ({', '.join(names)})" if names else "no source"
        problems.append(
            f"arms.{arm.name}.data_mixing: {block_name} is the source with format {kind}, but data.sources has {seen} with "
            "that format, expected exactly one; write the arm with sources"
        )
    return arm.model_copy(update={"sources": tuple(weights)})


def format_data_mixing(shares: Mapping[str, float], customer_ratio: float, dataset_catalog: str) -> dict[str, Any]:
    """Return the service's `data_mixing` block.

    Args:
        shares: Category: share of the general part; only ratios matter. Percents are rounded to a millionth and sum to 100.
        customer_ratio: Share of the customer's data in the whole, 0..1.
        dataset_catalog: Name of the service's catalogue.

    Raises:
        ConfigError: With all mistakes, the categories that the service does not have among them.
    """
    problems = _list_unknown(shares, "shares")
    if not dataset_catalog:
        problems.append("dataset_catalog is empty, expected the name of a catalogue")
    if not _is_number(customer_ratio) or not 0 <= customer_ratio <= 1:
        problems.append(f"customer_ratio is {customer_ratio!r}, expected a share from 0 to 1")
    problems += [
        f"shares.{name} is {share!r}, expected a finite number of 0 or more"
        for name, share in shares.items()
        if not _is_number(share) or share < 0
    ]
    if not problems and customer_ratio < 1 and not any(shares.values()):
        problems.append("shares are empty or all 0, but the customer's data leave a part of the mixture to them")
    _raise_all(problems, "the mixture has no form in the closed service")
    percents = _round_percents(shares) if any(shares.values()) else {}
    sources = {"customer_data": {"percent": _shorten(Fraction(customer_ratio) * 100)}, "nova_data": percents}
    return {"dataset_catalog": dataset_catalog, "sources": sources}


def parse_data_mixing(block: Any, *, needs_customer: bool = False) -> tuple[float, dict[str, float]]:
    """Read the service's `data_mixing` block.

    Args:
        block: The block, as JSON or YAML gives it.
        needs_customer: A block without customer data is a mistake.

    Returns:
        Percent of the customer's data in the whole, and percent of each category in the rest.

    Raises:
        ConfigError: With all mistakes.
    """
    problems: list[str] = []
    tree = _take_object(block, "data_mixing", ("dataset_catalog", "sources"), problems)
    sources = _take_object(tree.get("sources", {}), "sources", ("customer_data", "nova_data"), problems)
    customer = _take_object(sources.get("customer_data", {}), _CUSTOMER, ("percent",), problems)
    general = _take_object(sources.get("nova_data", {}), _GENERAL, None, problems)
    catalog = tree.get("dataset_catalog")
    if "dataset_catalog" in tree and (not isinstance(catalog, str) or not catalog):
        problems.append(f"dataset_catalog is {catalog!r:.60}, expected a name")
    percent = _take_percent(customer.get("percent"), f"{_CUSTOMER}.percent", problems)
    if needs_customer and percent == 0 and customer.get("percent") == 0:
        problems.append(f"{_CUSTOMER}.percent is 0, expected more: there would be no customer data")
    problems += _list_unknown(general, _GENERAL)
    percents = {str(name): _take_percent(value, f"{_GENERAL}.{name}", problems) for name, value in general.items()}
    total = math.fsum(percents.values())
    if (percents or not is_customer_only(percent)) and abs(total - 100) > _SUM_TOLERANCE:
        problems.append(f"the categories of {_GENERAL} sum to {total:.10g}, expected 100")
    _raise_all(problems, "the block data_mixing cannot be used")
    return percent, percents


def is_customer_only(percent: float) -> bool:
    """Tell whether a customer's percent leaves nothing to the general categories."""
    return math.isclose(percent, 100, rel_tol=0, abs_tol=_SUM_TOLERANCE)


def _round_percents(shares: Mapping[str, float]) -> dict[str, float | int]:
    """Scale shares to percents of a millionth each that sum to 100 exactly (largest remainder)."""
    exact = {name: Fraction(share) for name, share in shares.items() if share}
    total, num_units = sum(exact.values()), 100 * _UNITS_PER_PERCENT
    quotas = {name: share * num_units / total for name, share in exact.items()}
    units = {name: math.floor(quota) for name, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: (units[name] - quotas[name], name))
    for name in by_remainder[: num_units - sum(units.values())]:
        units[name] += 1
    return {name: _shorten(Fraction(count, _UNITS_PER_PERCENT)) for name, count in units.items()}


def _shorten(percent: Fraction) -> float | int:
    rounded = round(percent * _UNITS_PER_PERCENT)
    whole, rest = divmod(rounded, _UNITS_PER_PERCENT)
    return rounded / _UNITS_PER_PERCENT if rest else whole


def _take_object(value: Any, place: str, keys: tuple[str, ...] | None, problems: list[str]) -> Mapping[str, Any]:
    """Return an object of the block, or an empty one with the problem noted; `keys` None: any keys."""
    if not isinstance(value, Mapping):
        problems.append(f"{place} is {value!r:.60}, expected an object")
        return {}
    unknown = [repr(key) for key in value if keys is not None and key not in keys]
    if unknown:
        problems.append(f"{place} has the unknown keys {', '.join(unknown)}, expected {', '.join(keys or ())}")
    missing = [key for key in keys or () if key not in value and key != "nova_data"]
    problems += [f"{place} lacks {key}" for key in missing]
    return value


def _take_percent(value: Any, place: str, problems: list[str]) -> float:
    if value is None or not _is_number(value) or not 0 <= value <= 100:
        problems.append(f"{place} is {value!r:.60}, expected a number from 0 to 100")
        return 0.0
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _list_unknown(categories: Mapping[str, Any], place: str) -> list[str]:
    unknown = sorted(str(name) for name in categories if name not in SERVICE_CATEGORIES)
    if not unknown:
        return []
    return [f"{place} has categories that the service does not have: {', '.join(unknown)}"]


def _raise_all(problems: Sequence[str], summary: str) -> None:
    if problems:
        raise ConfigError(
            f"{summary}: {'; '.join(problems)}",
            expected=f"percents of the categories {', '.join(SERVICE_CATEGORIES)}",
            remedy="correct the keys that are named",
        )
