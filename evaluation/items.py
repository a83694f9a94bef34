"""The per-item table of one model: one row per item and suite, so that any two models can be paired.

Columns that a suite does not have are null.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.answers import GENERATIVE, LETTER, LOG_LIKELIHOOD, VOC, ModelAnswers, Questions
from evaluation.suites.voc.label_counts import Path as LabelPath
from voc.errors import CoverageError

GENERAL = (LOG_LIKELIHOOD, GENERATIVE, LETTER)
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
    ]
)


@dataclass(frozen=True, slots=True)
class Items:
    """What pairing needs, read back from `items.parquet`.

    Attributes:
        ids: Item ids per suite, in the order of the questions.
        gold: Gold label paths per comment.
        predicted: Predicted label paths per comment.
        correct: Right or wrong per question, for each general protocol.
    """

    ids: dict[str, list[str]]
    gold: list[frozenset[LabelPath]]
    predicted: list[frozenset[LabelPath]]
    correct: dict[str, list[bool]]


def write_items(path: Path, answers: ModelAnswers, questions: Questions) -> None:
    """Write one model's items."""
    rows: list[dict[str, Any]] = []
    for answer, line in zip(answers.voc_answers(questions), answers.lines[VOC], strict=True):
        rows.append(
            {
                "suite": VOC,
                **{name: line[name] for name in ("custom_id", "prompt_hash", "text", "failure", "strict")},
                "repair": answer.repair,
                "gold": [list(label) for label in sorted(answer.gold)],
                "predicted": [list(label) for label in sorted(answer.predicted)],
            }
        )
    shared = ("custom_id", "prompt_hash", "subject", "slice", "answer", "correct")
    own = {LOG_LIKELIHOOD: (), GENERATIVE: ("text", "schema_leak", "kind"), LETTER: ("text",)}
    rows += [
        {"suite": suite, **{name: line[name] for name in (*shared, *names)}}
        for suite, names in own.items()
        for line in answers.lines[suite]
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")


def read_items(data: bytes) -> Items:
    """Read what `write_items` wrote."""
    columns = ["suite", "custom_id", "correct", "gold", "predicted"]
    rows = pq.read_table(io.BytesIO(data), columns=columns).to_pylist()
    suites = {suite: [row for row in rows if row["suite"] == suite] for suite in (VOC, *GENERAL)}
    return Items(
        ids={suite: [row["custom_id"] for row in found] for suite, found in suites.items()},
        gold=[frozenset(map(tuple, row["gold"])) for row in suites[VOC]],
        predicted=[frozenset(map(tuple, row["predicted"])) for row in suites[VOC]],
        correct={suite: [row["correct"] for row in suites[suite]] for suite in GENERAL},
    )


def check_pairing(candidate: str, items: Items, reference: str, other: Items) -> None:
    """Make sure that two models answered the same items in the same order.

    Raises:
        CoverageError: If they did not; nothing is dropped to make them fit.
    """
    for suite, ids in items.ids.items():
        if ids != other.ids[suite]:
            raise CoverageError(
                f"{candidate} and {reference} do not have the same items in {suite} ({len(ids)} and {len(other.ids[suite])})",
                expected="the same ids in the same order",
                remedy="run gather again",
            )
