"""The data part of the configuration tree: sources, what is refused, what is dropped, what is redacted."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Ratio = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(gt=0)]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ReaderName = Literal["auto", "jsonl", "parquet", "csv", "converse", "openai", "datasets", "acos"]
RedactionKind = Literal["email", "phone", "order_number"]


class Section(BaseModel):
    """A part of the tree: unknown keys are errors, values are fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceConfig(Section):
    """One source of training rows."""

    name: Name = Field(description="the name that arms and reports use")
    uri: str = Field(
        description="a file, a folder or an s3:// prefix of files, or a data set id of the Hugging Face hub"
    )
    format: Literal["voc", "general"] = Field(
        description="voc: customer records; general: chat messages or prompt/completion"
    )
    reader: ReaderName = Field(
        "auto",
        description="how the files are read; auto goes by their names "
        "(.jsonl, .parquet, .csv, each also .gz except Parquet; .tsv is ACOS)",
    )
    columns: dict[str, str] = Field(
        {}, description="our field: the file's column, where the names differ (csv, parquet, datasets)"
    )
    split: str = Field("train", description="split of a data set (datasets)")
    category: str | None = Field(None, description="category of general rows that state none; unset: general")
    date_partitions: bool = Field(
        False,
        description="paths name a day (2026-11-24, 2026/11/24 or date=2026-11-24); "
        "a night reads what is newer than the last promoted run read",
    )
    replay_ratio: Ratio = Field(
        0.0, description="share of the rows up to the watermark that is read again (with date_partitions)"
    )


class DuplicatesConfig(Section):
    """What happens to comments that are there more than once."""

    exact: Literal["drop", "report"] = Field(
        "drop", description="equal texts of one meaning inside and across sources: the first stays"
    )
    near: Literal["drop", "report", "off"] = Field("report", description="near duplicates inside and across sources")
    near_threshold: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8, description="estimated Jaccard similarity of word 3-grams from which two texts are near duplicates"
    )
    label_conflicts: Literal["drop", "report"] = Field(
        "report", description="equal comments with different labels; drop removes all of them"
    )
    leakage: Literal["error", "drop", "report"] = Field(
        "error", description="training comments that are in the test set, word for word or nearly (unless near is off)"
    )


class ContaminationConfig(Section):
    """Overlap of the training sources with the evaluation sets."""

    ngram_words: PositiveInt = Field(13, description="words of an n-gram; shorter texts are compared whole")
    max_ratio: Ratio = Field(
        0.01,
        description="share of an evaluation set's items that may share an n-gram with a source; above it the run fails",
    )


class RedactionConfig(Section):
    """Personal data that is replaced before anything is stored."""

    kinds: tuple[RedactionKind, ...] = Field((), description="what is replaced: email, phone, order_number")
    order_number_pattern: str = Field(
        r"(?<![A-Za-z0-9])#?[A-Z]{2,4}-\d{6,12}(?![A-Za-z0-9])", description="regular expression of an order number"
    )

    @model_validator(mode="after")
    def _check_pattern(self) -> RedactionConfig:
        try:
            re.compile(self.order_number_pattern)
        except re.error as error:
            raise ValueError(f"order_number_pattern is not a regular expression: {error}") from None
        return self


class DataConfig(Section):
    """What the run reads."""

    taxonomy: str = Field(description="path or URI of the taxonomy CSV (L1,L2,L3,L4,description)")
    taxonomy_changes: str | None = Field(
        None, description="path or URI of the changes (JSONL) that carry labels of older taxonomies over to this one"
    )
    test: str = Field(description="path or URI of the held-out VOC records (JSONL)")
    sources: tuple[SourceConfig, ...] = Field(min_length=1, description="training sources")
    max_quarantine_ratio: Ratio = Field(
        0.01, description="share of refused rows in one source above which the run fails"
    )
    damaged_files: Literal["error", "report"] = Field(
        "error",
        description="files that are cut off, damaged or still being uploaded: how many rows they lack nobody can say; "
        "report takes what can be read",
    )
    max_row_bytes: PositiveInt = Field(16 << 20, description="a longer row is refused and pointed at, not loaded")
    languages: tuple[str, ...] = Field(
        (), description="ISO 639-1 codes; a comment in another language is refused; empty: any language"
    )
    label_matching: Literal["exact", "forgiving"] = Field(
        "exact", description="forgiving: a label that differs by case or outer spaces is repaired, and counted"
    )
    overlapping_segments: Literal["report", "refuse"] = Field(
        "report", description="segments of one comment that overlap (not mutually exclusive)"
    )
    duplicates: DuplicatesConfig = DuplicatesConfig()
    contamination: ContaminationConfig = ContaminationConfig()
    redaction: RedactionConfig = RedactionConfig()
