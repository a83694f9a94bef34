"""One part of a source, from its file to its accepted rows and their tokens: read, redact, check, encode, write, count.

Runs as one task per `InputSplit`, in bounded memory. Every row that is read is accepted, refused with a reason (in the part's
quarantine file) or, of an older day, not replayed.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from corpus.encoding.base_model import open_base
from corpus.encoding.encode import EncodedSample, SampleEncoder
from corpus.ground.stored_file import StoredFile, store_file, store_text
from corpus.parts.part_files import PartRow, PartWriter, writing_part
from corpus.parts.statistics import PartStatistics
from corpus.sources.formats import read_split
from corpus.sources.rows import InputSplit
from voc.config.data import DataConfig, SourceConfig
from voc.labels.changes import TaxonomyChanges
from voc.labels.taxonomy import Taxonomy
from voc.prompts import PromptVariant
from voc.records.acceptance import RepeatedIds, RowRules
from voc.records.language import choose_language, detect_language
from voc.records.lines import RawRow
from voc.records.records import GeneralRecord, VocRecord
from voc.records.refusals import Rejection, RowError

TEST = "test"
BATCH_ROWS = 512
_NUM_ENCODERS = 2  # threads: half of encoding is Python that waits for its turn
_TOKENIZER_THREADS = "TOKENIZERS_PARALLELISM"
_encode_json = json.JSONEncoder(ensure_ascii=False).encode


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


def ingest_part(task: IngestTask) -> PartResult:
    """Make one part.

    Raises:
        DataError: If the file cannot be read as what it is said to be (a Parquet file without a column, say).
        ModelError: If the base cannot be opened.
    """
    with _without_cycle_collection(), _tokenizing_where_asked():
        return _make_part(task)


@contextmanager
def _without_cycle_collection() -> Iterator[None]:
    """Leave freeing to reference counts: rows hold no cycles, and looking for some takes a tenth of the time of a part."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _tokenizing_where_asked() -> Iterator[None]:
    """Let each of our threads tokenise its batch itself: the tokenizer's own threads would take the CPU from the reading one."""
    is_unset = _TOKENIZER_THREADS not in os.environ
    if is_unset:
        os.environ[_TOKENIZER_THREADS] = "false"
    try:
        yield
    finally:
        if is_unset:
            del os.environ[_TOKENIZER_THREADS]


def _make_part(task: IngestTask) -> PartResult:
    result = PartResult(task.source.name, task.index, is_replay=task.split.is_replay)
    settings, stem = task.settings, f"{task.source.name}/part-{task.index:05d}"
    worker = _PartWorker(task, result)
    token_file: list[StoredFile] = []

    def write_rows(rows_path: Path) -> None:
        def write_both(tokens_path: Path) -> None:
            with writing_part(rows_path, None if task.is_test else tokens_path) as writer:
                worker.run(writer)

        if task.is_test:
            write_both(rows_path)
        else:
            token_file.append(store_file(settings.store_uri, settings.prefix, f"tokens/{stem}.arrow", write_both))

    result.rows = store_file(settings.store_uri, settings.prefix, f"rows/{stem}.parquet", write_rows)
    result.tokens = token_file[0] if token_file else None
    if worker.refused:
        ordered = sorted(worker.refused, key=lambda entry: entry["line"])
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in ordered)
        result.quarantine = store_text(settings.store_uri, settings.prefix, f"quarantine/{stem}.jsonl", lines)
    return result


class _Parsed(NamedTuple):
    """A row that was checked, and what was noticed about it: counted if it is not refused later."""

    raw: RawRow
    record: VocRecord | GeneralRecord
    notes: Counter[str]


class _PartWorker:
    """The rows of one part on their way."""

    def __init__(self, task: IngestTask, result: PartResult) -> None:
        self.task = task
        self.result = result
        self.refused: list[dict[str, Any]] = []
        settings = task.settings
        self._rules = RowRules(settings.data, settings.taxonomy, settings.changes)
        self._ids = RepeatedIds() if task.is_test else None
        self._encoder = None if task.is_test else open_encoder(settings)
        self._lengths: list[int] = []
        self._assistant_lengths: list[int] = []
        self._categories: list[int] = []
        self._category_numbers: dict[str, int] = {}

    def run(self, writer: PartWriter) -> None:
        """Read, check, encode and write all rows; while some batches are encoded, the next is read."""
        with ThreadPoolExecutor(_NUM_ENCODERS) as beside:
            encoding: deque[tuple[list[_Parsed], Future[list[EncodedSample | RowError] | list[None]]]] = deque()
            rows = self._read()
            while batch := list(islice(rows, BATCH_ROWS)):
                encoding.append((batch, beside.submit(self._encode, [row.record for row in batch])))
                if len(encoding) > _NUM_ENCODERS:
                    self._finish_first(encoding, writer)
            while encoding:
                self._finish_first(encoding, writer)
        self.result.lengths = np.array(self._lengths, dtype=np.int32)
        self.result.assistant_lengths = np.array(self._assistant_lengths, dtype=np.int32)
        self.result.categories = np.array(self._categories, dtype=np.int32)
        self.result.category_names = tuple(self._category_numbers)

    def _read(self) -> Iterator[_Parsed]:
        for item in read_split(self.task.split, self.task.source, max_row_bytes=self.task.settings.data.max_row_bytes):
            self.result.num_read += 1
            if isinstance(item, Rejection):
                self._refuse(item)
                continue
            if not self._is_taken(item):
                self.result.not_replayed += 1
                continue
            notes = Counter(item.notes)
            try:
                yield _Parsed(item, self._parse(item, notes), notes)
            except RowError as error:
                self._refuse(Rejection(item.line, error.reason, error.detail, item.raw))

    def _is_taken(self, row: RawRow) -> bool:
        if not self.task.split.is_replay:
            return True
        digest = hashlib.blake2b(f"{self.task.settings.seed}/{row.raw}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") < self.task.source.replay_ratio * 2**64

    def _parse(self, row: RawRow, notes: Counter[str]) -> VocRecord | GeneralRecord:
        source, redacted = self.task.source, self.result.redacted
        if source.format == "general":
            return self._rules.accept_general(row.value, source.category, notes, redacted)
        record = self._rules.accept_voc(row.value, notes, redacted)
        if self._ids is not None:
            self._ids.check(record)
        return record

    def _encode(self, records: Sequence[VocRecord | GeneralRecord]) -> list[EncodedSample | RowError] | list[None]:
        return [None] * len(records) if self._encoder is None else self._encoder.encode(records)

    def _finish_first(self, encoding: deque[tuple[list[_Parsed], Future[Any]]], writer: PartWriter) -> None:
        batch, future = encoding.popleft()
        self._finish(batch, future.result(), writer)

    def _finish(
        self, batch: Sequence[_Parsed], samples: Sequence[EncodedSample | RowError | None], writer: PartWriter
    ) -> None:
        rows, kept = [], []
        for item, sample in zip(batch, samples, strict=True):
            if isinstance(sample, RowError):
                self._refuse(Rejection(item.raw.line, sample.reason, sample.detail, item.raw.raw))
                continue
            self.result.notes.update(item.notes)
            rows.append(self._count(item.record, sample))
            if sample is not None:
                kept.append(sample)
        if rows:
            writer.write(rows, kept)

    def _count(self, record: VocRecord | GeneralRecord, sample: EncodedSample | None) -> PartRow:
        row = make_part_row(record, self.result.notes)
        num_tokens = None if sample is None else len(sample.input_ids)
        # A document's first token has nothing before it to be predicted from.
        num_learned = 0 if sample is None else int(np.count_nonzero(sample.learned[1:]))
        self.result.statistics.add(record, num_tokens, num_learned, row.lang)
        self._lengths.append(num_tokens or 0)
        self._assistant_lengths.append(num_learned)
        self._categories.append(self._category_numbers.setdefault(row.category, len(self._category_numbers)))
        return row

    def _refuse(self, rejection: Rejection) -> None:
        result, split = self.result, self.task.split
        result.refused[rejection.reason] += 1
        rejection = self._rules.redact_rejection(rejection)
        if result.first_refused is None or rejection.line < result.first_refused.line:
            result.first_refused = rejection  # rows that cannot be encoded are refused after later rows were read
        place: dict[str, Any] = {"source": self.task.source.name, "file": split.uri}
        if split.start:
            place["lines_count_from"] = split.start
        self.refused.append({**place, **rejection.to_json()})


def make_part_row(record: VocRecord | GeneralRecord, notes: Counter[str]) -> PartRow:
    """Return the columns of one accepted row; a language that contradicts the declared one is noted."""
    document = _encode_json(record.to_json())
    if isinstance(record, VocRecord):
        text = record.comment
        labels = _encode_json(sorted([*s.label, s.emotion] for s in record.segments))
        identifier, category, declared = record.id, "", record.extra.get("lang")
    else:
        turns = [m["content"] for m in record.messages] if record.messages else [record.prompt, record.completion]
        text, labels, identifier, category, declared = "\n".join(turns), "", "", record.category, None
    lang, differs = choose_language(declared, detect_language(text), text)
    if differs:
        notes["language_differs"] += 1
    return PartRow(identifier, text, labels, category, lang, document)


def open_encoder(settings: IngestSettings) -> SampleEncoder:
    """Return the encoder of a run; a process makes it once."""
    key = (settings.base_uri, settings.base_digest, settings.max_seq_len, settings.variant)
    return _open_encoder(*key, settings.taxonomy)


@lru_cache(maxsize=1)
def _open_encoder(
    base_uri: str, base_digest: str, max_seq_len: int, variant: PromptVariant, taxonomy: Taxonomy
) -> SampleEncoder:
    base = open_base(base_uri, max_seq_len=max_seq_len, digest=base_digest)
    return SampleEncoder(base, max_seq_len=max_seq_len, variant=variant, taxonomy=taxonomy)
