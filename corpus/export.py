"""An arm's data for the closed service: the rows it draws from as Converse JSONL, and its shares as a `data_mixing` block.

Rows are read from the parts and written one at a time. Each file is read back, row by row, before it gets its name. The service
mixes with general data of its own; ours are written too, so that both can be compared and a row can be used elsewhere.
The `data_mixing` block is made in `voc.config.arms`, since a configuration may state it too.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/prepare-data-text.html (bedrock-conversation-2024).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from corpus.build import read_records
from corpus.mixing.arms import ArmPlan, locate_rows
from corpus.parts.source_rows import UsableRows
from corpus.sources.formats import read_split
from corpus.sources.rows import InputSplit
from voc.config.arms import ArmConfig, format_data_mixing
from voc.config.data import SourceConfig
from voc.errors import ConfigError, IntegrityError
from voc.labels.taxonomy import Taxonomy
from voc.mixture import compute_shares
from voc.prompts import PromptVariant, render_answer, render_messages
from voc.records.acceptance import parse_accepted_rows
from voc.records.lines import RawRow
from voc.records.records import GeneralRecord, VocRecord, parse_general_record
from voc.records.refusals import RowError

SCHEMA_VERSION = "bedrock-conversation-2024"
DATASET_CATALOG = "sft_1p5_text_chat"  # of the service's recipe for its second generation, text only
CUSTOMER_FILE, GENERAL_FILE, LEFT_OUT_FILE, BLOCK_FILE = (
    "customer.jsonl",
    "general.jsonl",
    "not_exported.jsonl",
    "data_mixing.json",
)
RowFormat = Literal["voc", "general"]
_FILES: dict[RowFormat, str] = {"voc": CUSTOMER_FILE, "general": GENERAL_FILE}


@dataclass(frozen=True)
class ExportedFile:
    """One file of rows.

    Attributes:
        name: Its name in the folder.
        num_rows: Rows in it, counted by reading it back.
        left_out: Rows without a Converse form, by reason.
    """

    name: str
    num_rows: int
    left_out: Mapping[str, int]


def export_rows(
    arm: ArmPlan, usable: Mapping[str, UsableRows], variant: PromptVariant, taxonomy: Taxonomy, folder: Path
) -> list[ExportedFile]:
    """Write the rows that an arm draws from, and what of them has no Converse form.

    Files of an earlier export are removed first, so that all files in the folder belong together.

    Args:
        arm: The arm; the categories that it does not draw are not written.
        usable: The rows that are trained on, per source.
        variant: Prompt variant of the comments.
        taxonomy: The labels.
        folder: Where the files go.

    Raises:
        IntegrityError: If a file does not come back as it was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*_FILES.values(), LEFT_OUT_FILE, BLOCK_FILE):
        (folder / name).unlink(missing_ok=True)
    files = []
    with (folder / LEFT_OUT_FILE).open("w", encoding="utf-8") as left_out_file:
        for kind, name in _FILES.items():
            sources = [n for n in _list_sources(arm) if usable[n].source.config.format == kind]
            if not sources:
                continue
            converter = _Converter(variant, taxonomy, left_out_file)
            lines = (line for source in sources for line in converter.convert(_choose(arm, usable[source])))
            num_rows = _write_checked(lines, folder / name, kind)
            files.append(ExportedFile(name, num_rows, dict(sorted(converter.left_out.items()))))
    return files


def make_block(
    arm: ArmConfig, plan: ArmPlan, usable: Mapping[str, UsableRows], dataset_catalog: str | None = None
) -> dict[str, Any]:
    """Return the `data_mixing` block that says the arm's shares: the one that it was written with, or its sources'.

    A source without categories of its own in the arm counts with the categories of the rows that are drawn of it, in the
    unit of the arm's weights.

    Args:
        arm: The arm's shares.
        plan: What it draws.
        usable: The rows that are trained on, per source.
        dataset_catalog: Name of the service's catalogue; None: the given block's, or `DATASET_CATALOG`.

    Raises:
        ConfigError: If the shares cannot be said there: a category that the service does not have, or not exactly one
            customer source.
    """
    if arm.data_mixing is not None:
        return {**arm.data_mixing, **({"dataset_catalog": dataset_catalog} if dataset_catalog else {})}
    customers = [source.name for source in arm.sources if usable[source.name].source.config.format == "voc"]
    if len(customers) != 1:
        raise ConfigError(
            f"the arm {arm.name!r} cannot be written as a data_mixing block: it has {len(customers)} sources with format "
            f"voc ({', '.join(customers) or 'none'})",
            expected="exactly one: the block has one percent for all customer data",
            remedy="put the customer data into one source, or mix them there by hand",
        )
    customer_ratio, categories = 0.0, dict[str, float]()
    for stratum, share in compute_shares(arm.sources).items():
        if stratum.source in customers:
            customer_ratio += float(share)
        elif stratum.category is not None:
            categories[stratum.category] = categories.get(stratum.category, 0.0) + float(share)
        else:
            for name, ratio in _count_drawn(plan, usable, stratum.source).items():
                categories[name] = categories.get(name, 0.0) + float(share) * ratio
    try:
        return format_data_mixing(categories, customer_ratio, dataset_catalog or DATASET_CATALOG)
    except ConfigError as error:
        raise ConfigError(
            f"the arm {arm.name!r} cannot be written as a data_mixing block: {error.problem}",
            expected=error.expected,
            remedy="name general rows after the service's categories (category in the rows, or data.sources[].category)",
        ) from error


def describe_export(files: Iterable[ExportedFile]) -> str:
    """Return one line per file for the terminal."""
    lines = []
    for file in files:
        counts = ", ".join(f"{reason} {count}" for reason, count in file.left_out.items())
        also = f"; without a Converse form: {counts} (see {LEFT_OUT_FILE})" if counts else ""
        lines.append(f"{file.name}: {file.num_rows} rows, read back{also}")
    return "\n".join(lines)


def _list_sources(arm: ArmPlan) -> list[str]:
    return list(dict.fromkeys(share.name for share in arm.plan.shares))


def _choose(arm: ArmPlan, rows: UsableRows) -> UsableRows:
    """Return the rows of a source that the arm may draw: all, or those of the categories that it names."""
    categories = [share.category for share in arm.plan.shares if share.name == rows.source.name]
    numbers = np.unique(np.concatenate([rows.select(category) for category in categories]))
    return UsableRows(rows.source, numbers)


class _Converter:
    """Makes lines of the service's file from rows; what has no form there goes to another file and is counted."""

    def __init__(self, variant: PromptVariant, taxonomy: Taxonomy, left_out_file: TextIO) -> None:
        self.left_out: Counter[str] = Counter()
        self._variant: PromptVariant = variant
        self._taxonomy = taxonomy
        self._file = left_out_file

    def convert(self, rows: UsableRows) -> Iterator[str]:
        """Yield the line of each row that has one."""
        taken = np.zeros(rows.source.num_rows, dtype=bool)
        taken[rows.numbers] = True
        is_voc = rows.source.config.format == "voc"
        for row, (text, is_taken) in enumerate(zip(read_records(rows.source), taken, strict=True)):
            if not is_taken:
                continue
            record: VocRecord | GeneralRecord
            if is_voc:  # our own file: it was judged when it was written
                (record,) = parse_accepted_rows(text.encode(), self._taxonomy, f"rows/{rows.source.name}")
            else:
                record = parse_general_record(json.loads(text))
            try:
                line = make_converse(record, self._variant, self._taxonomy)
            except RowError as error:
                self.left_out[error.reason] += 1
                entry = {"source": rows.source.name, "row": row, "reason": error.reason, "detail": error.detail}
                self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            else:
                yield json.dumps(line, ensure_ascii=False) + "\n"


def _write_checked(lines: Iterable[str], path: Path, kind: RowFormat) -> int:
    """Write lines under another name, read them as the service's rows, and give the file its name.

    Returns:
        Rows of the file.

    Raises:
        IntegrityError: If a row is missing or cannot be read.
    """
    partial = path.with_name(f".{path.name}.partial")
    written = longest = 0
    with partial.open("wb") as file:
        for line in lines:
            data = line.encode()
            file.write(data)
            written, longest = written + 1, max(longest, len(data))
    split = InputSplit(path.stem, str(partial), "converse")
    source = SourceConfig(name=path.stem, uri=str(partial), format=kind, reader="converse")
    good = sum(isinstance(item, RawRow) for item in read_split(split, source, max_row_bytes=max(1, longest)))
    if good != written:
        raise IntegrityError(
            f"{partial} gives {good} rows when it is read", expected=f"the {written} rows that were written to it"
        )
    partial.replace(path)
    return good


def _count_drawn(plan: ArmPlan, usable: Mapping[str, UsableRows], source: str) -> dict[str, float]:
    """Return the share of each category in what is drawn of a source, in the unit of the mixture's weights."""
    strata, numbers = locate_rows(plan.plan, usable, range(plan.plan.num_samples))
    names = np.array([share.name == source for share in plan.plan.shares])
    rows = usable[source]
    figures = rows.figures
    places = np.searchsorted(rows.numbers, numbers[names[strata]])
    units = {"tokens": figures.tokens, "assistant_tokens": figures.assistant_tokens}.get(plan.plan.unit)
    weights = None if units is None else units[places].astype(np.float64)
    counts = np.bincount(figures.categories[places], weights=weights, minlength=len(figures.category_names))
    total = counts.sum()
    return {name: float(n / total) for name, n in zip(figures.category_names, counts, strict=True) if n}


def make_converse(record: VocRecord | GeneralRecord, variant: PromptVariant, taxonomy: Taxonomy) -> dict[str, Any]:
    """Return the Converse training row of one record.

    Raises:
        RowError: If it has none: `plain_text`, `turns_not_alternating` (from a user to an assistant, after a system turn at
            most) or `blank_turn`.
    """
    if isinstance(record, VocRecord):
        answer = {"role": "assistant", "content": render_answer(record.segments)}
        turns: Sequence[Mapping[str, str]] = [*render_messages(record.comment, variant, taxonomy), answer]
    else:
        turns = record.messages
    system = [turn for turn in turns[:1] if turn["role"] == "system"]
    others = turns[len(system) :]
    roles = [turn["role"] for turn in others]
    if not others:
        raise RowError("plain_text", "it is plain text, which a chat format cannot say")
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise RowError("turns_not_alternating", f"its turns are {', '.join(roles[:6])}")
    if any(not turn["content"].strip() for turn in turns):
        raise RowError("blank_turn", "a turn is blank")
    return {
        "schemaVersion": SCHEMA_VERSION,
        **({"system": [{"text": turn["content"]} for turn in system]} if system else {}),
        "messages": [{"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in others],
    }
