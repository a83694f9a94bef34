"""What one part of a source is asked for, and what comes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from corpus.file_places import StoredFile
from corpus.report.statistics import PartStatistics
from corpus.rows import InputSplit
from voc.config.data import DataConfig, SourceConfig
from voc.labels.changes import TaxonomyChanges
from voc.labels.taxonomy import Taxonomy
from voc.prompts import PromptVariant
from voc.records.refusals import Rejection

TEST = "test"


@dataclass(frozen=True)
class IngestSettings:
    """What all parts of a run share.

    Attributes:
        store_uri: The store.
        prefix: The run's data directory.
        data: The data section of the configuration.
        taxonomy: The labels.
        changes: How labels of older taxonomies are carried over.
        base_uri: The model whose tokenizer and template encode the rows.
        base_digest: Its digest.
        max_seq_len: Longest sample in tokens.
        variant: Prompt variant of comments.
        seed: Seed of the replay share.
    """

    store_uri: str
    prefix: str
    data: DataConfig
    taxonomy: Taxonomy
    changes: TaxonomyChanges | None
    base_uri: str
    base_digest: str
    max_seq_len: int
    variant: PromptVariant
    seed: int


@dataclass(frozen=True)
class IngestTask:
    """One part to make.

    Attributes:
        settings: What all parts share.
        source: The source; the test set is one with the name `test`, whose rows are not encoded.
        split: What is read.
        index: Number of the part in its source.
    """

    settings: IngestSettings
    source: SourceConfig
    split: InputSplit
    index: int

    @property
    def is_test(self) -> bool:
        """Whether it is a part of the test set."""
        return self.source.name == TEST


@dataclass
class PartResult:
    """What came of one part.

    Attributes:
        source: Name of the source.
        index: Number of the part.
        rows: The Parquet file of accepted rows.
        tokens: The Arrow file of their tokens; None for the test set.
        quarantine: The refused rows as JSONL; None if there are none.
        num_read: Rows read: accepted, refused or not replayed.
        not_replayed: Rows of older days that the replay share left out.
        is_replay: Whether its rows are of a day up to the watermark.
        refused: Refused rows per reason.
        first_refused: The first of them.
        notes: What was noticed about accepted rows, per kind (repaired labels, overlaps).
        redacted: Replaced personal data per kind.
        lengths: [rows] int32 tokens.
        assistant_lengths: [rows] int32 learned tokens.
        categories: [rows] int32 index into `category_names`.
        category_names: Categories in order of appearance.
        statistics: Counts for the data report; empty once they are added to those of the source (some 300 KiB per part).
    """

    source: str
    index: int
    is_replay: bool = False
    rows: StoredFile | None = None
    tokens: StoredFile | None = None
    quarantine: StoredFile | None = None
    num_read: int = 0
    not_replayed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    first_refused: Rejection | None = None
    notes: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    assistant_lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    categories: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    category_names: tuple[str, ...] = ()
    statistics: PartStatistics = field(default_factory=PartStatistics)
