"""Multiple-choice questions in the layout of `cais/mmlu`: columns question, subject, choices (4), answer (0 to 3), slice?.

Reads `<dataset>/test.parquet` (the questions) and `<dataset>/dev.parquet` (examples) from a folder or URI, or the configuration
`all` of a hub dataset where there is a network.

Source: Hendrycks et al., 2021, Measuring Massive Multitask Language Understanding (https://arxiv.org/abs/2009.03300).
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc.errors import DataError
from voc.prompts import MMLU_LETTERS
from voc.store.manifest import digest_json
from voc.store.uri import read_uri

COLUMNS = ("question", "subject", "choices", "answer")
HUB_CONFIGURATION = "all"
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class MmluItem:
    """One question.

    Attributes:
        index: Row in its file, from 0.
        custom_id: The id that samples carry: `mmlu-` and the row in six digits.
        subject: As the file spells it.
        slice: A group within the dataset that reports show apart, or None.
        question: The text.
        choices: The four options, A to D.
        answer: The right letter.
    """

    index: int
    custom_id: str
    subject: str
    slice: str | None
    question: str
    choices: tuple[str, str, str, str]
    answer: str


def load_mmlu(dataset: str, limit: int | None) -> list[MmluItem]:
    """Return the questions in file order, only the first `limit` if that is not None.

    Raises:
        DataError: If the file is empty, lacks a column, or a row is not a four-way question.
        ObjectNotFoundError: If the file is not there.
    """
    return _parse_items(_read_split(dataset, "test")[:limit], f"{dataset}, test")


def load_mmlu_examples(dataset: str) -> list[MmluItem]:
    """Return the examples (the `dev` split), in file order."""
    return _parse_items(_read_split(dataset, "dev"), f"{dataset}, dev")


def digest_items(items: Sequence[MmluItem]) -> str:
    """Return the SHA-256 over everything that a model is given."""
    return digest_json([[i.custom_id, i.subject, i.slice, i.question, list(i.choices), i.answer] for i in items])


def _read_split(dataset: str, split: str) -> list[dict[str, Any]]:
    if _HUB_ID.fullmatch(dataset) and not Path(dataset).exists():
        return _read_hub_split(dataset, split)
    import pyarrow as pa
    import pyarrow.parquet as pq

    origin = f"{dataset.rstrip('/')}/{split}.parquet"
    try:
        table = pq.read_table(io.BytesIO(read_uri(origin)))
    except pa.ArrowException as error:
        raise DataError(f"{origin} is not a Parquet file: {error}", expected="the layout of cais/mmlu") from error
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _read_hub_split(dataset: str, split: str) -> list[dict[str, Any]]:
    import datasets

    try:
        return list(datasets.load_dataset(dataset, HUB_CONFIGURATION, split=split))
    except Exception as error:  # the library raises a different class for each way to be offline or misspelt
        raise DataError(
            f"the hub dataset {dataset!r} cannot be loaded: {type(error).__name__}: {error}",
            expected="a folder with dev.parquet and test.parquet, or a hub dataset that can be reached from here",
            remedy="check evaluation.mmlu.dataset, the network, and HF_HUB_OFFLINE",
        ) from error


def _parse_items(rows: Sequence[Mapping[str, Any]], origin: str) -> list[MmluItem]:
    if not rows:
        raise DataError(f"{origin} has no rows", expected="multiple-choice questions")
    missing = [name for name in COLUMNS if name not in rows[0]]
    if missing:
        raise DataError(
            f"{origin} lacks the columns {', '.join(missing)}", expected=f"the columns {', '.join(COLUMNS)}"
        )
    return [_parse_item(index, row, origin) for index, row in enumerate(rows)]


def _parse_item(index: int, row: Mapping[str, Any], origin: str) -> MmluItem:
    choices, answer = row["choices"], row["answer"]
    texts = (row["question"], row["subject"], *(choices or ()))
    if len(choices or ()) != len(MMLU_LETTERS) or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{origin}, row {index}: {choices!r:.80} are not four texts, or question or subject is not a text",
            expected="four options",
        )
    if not isinstance(answer, int) or not 0 <= answer < len(MMLU_LETTERS):
        raise DataError(f"{origin}, row {index}: the answer is {answer!r}", expected="0 to 3")
    return MmluItem(
        index=index,
        custom_id=f"mmlu-{index:06d}",
        subject=row["subject"],
        slice=row.get("slice"),
        question=row["question"],
        choices=(choices[0], choices[1], choices[2], choices[3]),
        answer=MMLU_LETTERS[answer],
    )
