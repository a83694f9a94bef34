"""The same data for the closed service: training rows in the Converse format, and the `data_mixing` block, both ways.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/prepare-data-text.html (bedrock-conversation-2024) and the
service's recipe for data mixing: `customer_data.percent` is the customer's share, the categories of `nova_data` sum to 100 and
share the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from voc.errors import ConfigError, DataError
from voc.prompts import render_answer, render_messages
from voc.records import GeneralRecord, VocRecord

if TYPE_CHECKING:
    from voc.prompts import PromptVariant
    from voc.taxonomy import Taxonomy

SCHEMA_VERSION = "bedrock-conversation-2024"
SERVICE_CATEGORIES = tuple(
    "agents baseline chat code factuality identity long-context math rai instruction-following stem planning "  # noqa: SIM905
    "reasoning-chat reasoning-code reasoning-factuality reasoning-instruction-following reasoning-math "
    "reasoning-planning reasoning-rag reasoning-rai reasoning-stem rag translation".split()
)
_CUSTOMER = "sources.customer_data"
_GENERAL = "sources.nova_data"
_SUM_TOLERANCE = 1e-6
_UNITS_PER_PERCENT = 10**6


def write_converse(
    records: Iterable[VocRecord | GeneralRecord], variant: PromptVariant, taxonomy: Taxonomy
) -> Iterator[dict[str, Any]]:
    """Yield the Converse training row of each record.

    Reading it back gives the comment and segments, or the turns; ids, categories and the other fields have no place in it.

    Args:
        records: What is to be trained.
        variant: Prompt variant of the comments.
        taxonomy: Its labels.

    Raises:
        DataError: If a record has no Converse form: plain text, a blank turn, turns that do not alternate from a user to an
            assistant, or a system turn that is not the first.
    """
    for number, record in enumerate(records, start=1):
        if isinstance(record, VocRecord):
            answer = {"role": "assistant", "content": render_answer(record.segments)}
            turns: Sequence[Mapping[str, str]] = [*render_messages(record.comment, variant, taxonomy), answer]
        else:
            turns = record.messages
        yield _make_converse(turns, number)


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


def parse_data_mixing(block: Any) -> tuple[float, dict[str, float]]:
    """Read the service's `data_mixing` block.

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
    problems += _list_unknown(general, _GENERAL)
    percents = {str(name): _take_percent(value, f"{_GENERAL}.{name}", problems) for name, value in general.items()}
    total = math.fsum(percents.values())
    needs_general = not math.isclose(percent, 100, abs_tol=_SUM_TOLERANCE)
    if (percents or needs_general) and abs(total - 100) > _SUM_TOLERANCE:
        problems.append(f"the categories of {_GENERAL} sum to {total:.10g}, expected 100")
    _raise_all(problems, "the block data_mixing cannot be used")
    return percent, percents


def _make_converse(turns: Sequence[Mapping[str, str]], number: int) -> dict[str, Any]:
    system = [turn for turn in turns[:1] if turn["role"] == "system"]
    others = turns[len(system) :]
    roles = [turn["role"] for turn in others]
    problem = ""
    if not others:
        problem = "it is plain text, which a chat format cannot say"
    elif roles != ["user", "assistant"] * (len(roles) // 2):
        problem = f"its turns are {', '.join(roles[:6])}"
    elif any(not turn["content"].strip() for turn in turns):
        problem = "a turn is blank"
    if problem:
        raise DataError(
            f"record {number} has no Converse form: {problem}",
            expected="at most one system turn, then user and assistant in turn, none of them blank",
            remedy="leave it out of what is written for the closed service",
        )
    return {
        "schemaVersion": SCHEMA_VERSION,
        **({"system": [{"text": turn["content"]} for turn in system]} if system else {}),
        "messages": [{"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in others],
    }


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
