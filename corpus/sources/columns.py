"""From the columns of a table (CSV, Parquet, a data set) to a row of the contract.

A VOC table has `id`, `comment` and either `segments` (nested, or JSON in a text) or, flat, `L1`..`L4` and `emotion` (and
`content`, without which the segment is the whole comment): one segment per row, none if all four levels are empty. A general
table has `messages` (nested, or JSON in a text) or `prompt` and `completion`. The setting `columns` maps other names. An id
that is a whole number becomes text; a row without an id gets none, because two tables would give the same one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from voc.errors import DataError
from voc.labels.taxonomy import LEVELS
from voc.records.lines import decode, parse_json
from voc.records.refusals import RowError

if TYPE_CHECKING:
    from voc.config.data import SourceConfig

FLAT_FIELDS = (*LEVELS, "emotion")
_VOC_FIELDS = ("id", "comment", "segments", *FLAT_FIELDS, "content", "lang", "source", "created_at")
_GENERAL_FIELDS = ("messages", "prompt", "completion", "category")
_JSON_FIELDS = ("segments", "messages")
_MAX_LISTED = 30


def plan_columns(source: SourceConfig, available: Sequence[str], origin: str) -> dict[str, str]:
    """Decide which column of a table gives which field.

    Returns:
        Field: column, for every field that the table has.

    Raises:
        DataError: With every mapped or needed column that is not there, or is there twice.
    """
    known = _VOC_FIELDS if source.format == "voc" else _GENERAL_FIELDS
    problems = [
        f"columns names the field {field!r}, which there is not" for field in source.columns if field not in known
    ]
    claimed = set(source.columns.values())
    fields = {field: source.columns.get(field, field) for field in known}
    found = {
        field: column
        for field, column in fields.items()
        if column in available and (field in source.columns or column not in claimed)
    }
    problems += [
        f"it has no column {column!r} (mapped to {field})"
        for field, column in source.columns.items()
        if field in known and column not in available
    ]
    found = _choose_shape(found)
    missing = [field for field in _needed(found, source.format) if field not in found and field not in source.columns]
    problems += [f"it has no column {field!r}" for field in missing]
    counts = Counter(available)
    problems += [f"it has {counts[c]} columns {c!r}" for c in found.values() if counts[c] > 1]
    if problems:
        listed = ", ".join(map(repr, available[:_MAX_LISTED])) or "none"
        raise DataError(
            f"{origin}: {'; '.join(problems)}",
            expected=f"the fields {', '.join(known)} where they apply; the file's columns are {listed}",
            remedy=f"map them in the setting columns of source {source.name} (our field: the file's column)",
        )
    return found


def shape_row(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Make a row of the contract from the cells of a table's row; None is a field that is not there.

    Raises:
        RowError: If a cell is not a number, not UTF-8 or holds JSON that is none.
    """
    row = {field: _to_json(cell, field) for field, cell in cells.items() if cell is not None}
    for field in _JSON_FIELDS:
        if isinstance(row.get(field), str):
            row[field] = parse_json(row[field])
    if isinstance(row.get("id"), int) and not isinstance(row["id"], bool):
        row["id"] = str(row["id"])
    return _nest_segment(row) if "L1" in cells else row


def _choose_shape(found: dict[str, str]) -> dict[str, str]:
    """Leave out the flat columns of a table that has the nested one."""
    shadowed: set[str] = set()
    if "segments" in found:
        shadowed |= {*FLAT_FIELDS, "content"}
    if "messages" in found:
        shadowed |= {"prompt", "completion"}
    return {field: column for field, column in found.items() if field not in shadowed}


def _needed(found: Mapping[str, str], row_format: str) -> tuple[str, ...]:
    if row_format == "voc":
        is_flat = any(field in found for field in FLAT_FIELDS)
        return ("id", "comment", *(FLAT_FIELDS if is_flat else ("segments",)))
    return ("prompt", "completion") if {"prompt", "completion"} & set(found) else ("messages",)


def _nest_segment(row: dict[str, Any]) -> dict[str, Any]:
    label = {field: row.pop(field) for field in FLAT_FIELDS if field in row}
    content = row.pop("content", row.get("comment"))
    if not any(label.get(level) for level in LEVELS):
        return {**row, "segments": []}
    return {**row, "segments": [{"content": content, **label}]}


def _to_json(cell: Any, place: str) -> Any:
    if isinstance(cell, float) and not math.isfinite(cell):
        raise RowError("not_a_number", f"{place} is {cell}, expected a text")
    if cell is None or isinstance(cell, str | bool | int | float):
        return cell
    if isinstance(cell, Mapping):
        return {str(key): _to_json(item, f"{place}.{key}") for key, item in cell.items() if item is not None}
    if isinstance(cell, list | tuple):
        return [_to_json(item, f"{place}[{index}]") for index, item in enumerate(cell)]
    if isinstance(cell, bytes):
        return decode(cell)
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    return str(cell)
