"""The per-item table of one model: one row per item and suite, so that any two models can be paired.

Columns that a suite does not have are null. Figures of an item that have no column of their own are JSON under `metrics`.
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from voc.errors import ConfigError, CoverageError

ITEMS_NAME = "items.parquet"
LabelPath = tuple[str, ...]
_PATHS = pa.list_(pa.list_(pa.string()))
SCHEMA = pa.schema(
    [
        ("suite", pa.string()),
        ("custom_id", pa.string()),
        ("prompt_hash", pa.string()),
        ("subject", pa.string()),
        ("slice", pa.string()),
        ("answer", pa.string()),
        ("text", pa.string()),
        ("correct", pa.bool_()),
        ("schema_leak", pa.bool_()),
        ("kind", pa.string()),
        ("gold", _PATHS),
        ("predicted", _PATHS),
        ("failure", pa.string()),
        ("strict", pa.bool_()),
        ("repair", pa.string()),
        ("metrics", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Items:
    """What pairing needs, read back from `items.parquet`; per suite in the order of the questions.

    Attributes:
        ids: Item ids per suite.
        gold: Gold label paths per comment.
        predicted: Predicted label paths per comment.
        correct: Right or wrong per question, for each suite whose items are that.
        metrics: Further figures per item, by name, for each suite that has some.
    """

    ids: dict[str, list[str]]
    gold: list[frozenset[LabelPath]]
    predicted: list[frozenset[LabelPath]]
    correct: dict[str, list[bool]]
    metrics: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)

    def values(self, suite: str, metric: str) -> list[Any]:
        """Return one further figure of every item of a suite.

        Raises:
            ConfigError: If the items have no such figure.
        """
        found = self.metrics.get(suite, [])
        if not all(metric in item for item in found):
            known = sorted({name for item in found for name in item})
            raise ConfigError(f"the items of {suite} have no {metric!r}", expected=f"one of {', '.join(known)}")
        return [item[metric] for item in found]


def write_items(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one model's items, as its suites list them."""
    kept = [{**row, "metrics": json.dumps(row["metrics"])} if "metrics" in row else dict(row) for row in rows]
    pq.write_table(pa.Table.from_pylist(kept, schema=SCHEMA), path, compression="zstd")


def read_items(data: bytes) -> Items:
    """Read what `write_items` wrote; of an earlier version's file, without further figures."""
    table = pq.read_table(io.BytesIO(data))
    columns = ("suite", "custom_id", "correct", "gold", "predicted", "metrics")
    rows = table.select([name for name in columns if name in table.column_names]).to_pylist()
    suites: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        suites.setdefault(row["suite"], []).append(row)
    labelled = [row for row in rows if row["gold"] is not None]
    return Items(
        ids=defaultdict(list, {suite: _pick(found, "custom_id") for suite, found in suites.items()}),
        gold=[frozenset(map(tuple, row["gold"])) for row in labelled],
        predicted=[frozenset(map(tuple, row["predicted"])) for row in labelled],
        correct={suite: _pick(found, "correct") for suite, found in suites.items() if found[0]["correct"] is not None},
        metrics={
            suite: [json.loads(text) for text in _pick(found, "metrics")]
            for suite, found in suites.items()
            if found[0].get("metrics") is not None
        },
    )


def _pick(rows: Sequence[Mapping[str, Any]], column: str) -> list[Any]:
    return [row[column] for row in rows]


def check_pairing(candidate: str, items: Items, reference: str, other: Items) -> None:
    """Make sure that two models answered the same items in the same order.

    Raises:
        CoverageError: If they did not; nothing is dropped to make them fit.
    """
    for suite in items.ids.keys() | other.ids.keys():
        ids, others = items.ids.get(suite, []), other.ids.get(suite, [])
        if ids != others:
            raise CoverageError(
                f"{candidate} and {reference} do not have the same items in {suite} ({len(ids)} and {len(others)})",
                expected="the same ids in the same order",
                remedy="run gather again",
            )
