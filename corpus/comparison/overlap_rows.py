"""Every training row that shares something with an evaluation set, as JSON lines: what somebody has to look at or take out.

Unlike the report, which holds counts and a few examples, the list is complete. Like the quarantine it shows the beginning of
each text: a chat has no id by which its owner would find it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from corpus.comparison.contamination import ContaminationFindings
from corpus.comparison.duplicates import DuplicateFindings
from corpus.comparison.evaluation_sets import VOC_TEST
from corpus.parts import PartFile, read_cells

_SHOWN_CHARS = 200
_ROWS_AT_ONCE = 10_000


def list_overlaps(
    duplicates: DuplicateFindings, contamination: ContaminationFindings, parts: Sequence[PartFile]
) -> Iterator[str]:
    """Yield a line for every training row and evaluation set: the row, the first item that it shares something with, and how.

    `kind` is `leakage_exact`, `leakage_near` or `ngram`; rows that are dropped as leaks are compared no further. Rows and items
    are counted from 0, rows over the accepted ones of their source.
    """
    for source, leaks in duplicates.leaks.items():
        kinds = np.where(leaks["is_near"], "leakage_near", "leakage_exact").tolist()
        yield from _write_lines({"source": source, "evaluation_set": VOC_TEST}, leaks, kinds, parts)
    for overlap in contamination.overlaps:
        sides = {"source": overlap.source, "evaluation_set": overlap.evaluation_set}
        yield from _write_lines(sides, overlap.pairs, ["ngram"] * len(overlap.pairs), parts)


def _write_lines(
    sides: Mapping[str, str], pairs: np.ndarray, kinds: Sequence[str], parts: Sequence[PartFile]
) -> Iterator[str]:
    source = sides["source"]
    for start in range(0, len(pairs), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        rows, items = pairs["row"][some].tolist(), pairs["item"][some].tolist()
        cells = read_cells(parts, {source: rows}, ("id", "text"))
        for row, item, kind in zip(rows, items, kinds[some], strict=True):
            cell = cells[source, row]
            document = {**sides, "kind": kind, "row": row, "id": cell["id"], "item": item}
            yield json.dumps(document | {"text": cell["text"][:_SHOWN_CHARS]}, ensure_ascii=False)
