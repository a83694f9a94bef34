"""Sources made for tests, and what their readers give."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

from corpus.sources.formats import read_split
from corpus.sources.splits import list_splits
from voc.config.data import SourceConfig
from voc.records.lines import RawRow
from voc.records.refusals import Rejection

MAX_ROW_BYTES = 10_000


def make_source(uri: Path | str, **changes: Any) -> SourceConfig:
    return SourceConfig(**{"name": "reviews", "uri": str(uri), "format": "voc", **changes})


def make_row(number: int, comment: str = "die Akkulaufzeit ist großartig 🔋") -> dict[str, Any]:
    segment = {"content": "großartig", "L1": "Product", "L2": "Battery", "L3": "Use", "L4": "Runtime", "emotion": "joy"}
    return {"id": f"r{number}", "comment": comment, "segments": [segment] * (number % 3)}


def to_jsonl(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def read_items(
    source: SourceConfig,
    *,
    split_bytes: int = 1 << 30,
    max_row_bytes: int = MAX_ROW_BYTES,
    watermark: date | None = None,
) -> list[RawRow | Rejection]:
    splits = list_splits(source, watermark=watermark, split_bytes=split_bytes).splits
    return [item for split in splits for item in read_split(split, source, max_row_bytes=max_row_bytes)]


def read_values(source: SourceConfig, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of a source in which nothing is refused."""
    items = read_items(source, **options)
    refused = [item for item in items if isinstance(item, Rejection)]
    assert refused == []
    return [item.value for item in items if isinstance(item, RawRow)]


def name_items(items: Iterable[RawRow | Rejection]) -> list[Any]:
    """Return each row's value, and each refusal's reason."""
    return [item.value if isinstance(item, RawRow) else item.reason for item in items]
