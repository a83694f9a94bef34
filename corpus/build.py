"""From listed files to usable rows: every part is ingested, then all texts are compared with each other and with the tests."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.comparison.contamination import ContaminationFindings, check_contamination, find_contamination
from corpus.comparison.duplicates import DuplicateFindings, check_leakage, find_duplicates
from corpus.comparison.evaluation_sets import read_evaluation_sets
from corpus.comparison.overlap_rows import list_overlaps
from corpus.file_places import StoredFile, localise, store_file
from corpus.held_out import HeldOut, choose_held_out, take_out
from corpus.ingest import ingest_part
from corpus.part_files import read_column
from corpus.part_tasks import IngestSettings, IngestTask, PartResult
from corpus.reading import Reading
from corpus.report.statistics import PartStatistics
from corpus.sources import Source, UsableRows, choose_usable
from corpus.task_runner import MapParts, keep_here
from voc.config.night import NightforgeConfig
from voc.progress import Progress
from voc.store.base import Store
from voc.store.uri import open_store

QUARANTINE = "quarantine.jsonl"
OVERLAPS = "overlaps.jsonl"


@dataclass(frozen=True)
class Corpus:
    """What a run reads, checked.

    Attributes:
        test: The test set.
        sources: The training sources.
        duplicates: What is there more than once, and which rows are not used for it.
        contamination: What the sources share with the evaluation sets.
        held_out: What no arm draws, for validation.
        usable: The rows that are trained on, per source.
    """

    test: Source
    sources: tuple[Source, ...]
    duplicates: DuplicateFindings
    contamination: ContaminationFindings
    held_out: tuple[HeldOut, ...]
    usable: Mapping[str, UsableRows]

    @property
    def all_sources(self) -> tuple[Source, ...]:
        """The test set and the training sources."""
        return (self.test, *self.sources)


def build_corpus(
    reading: Reading, config: NightforgeConfig, store_uri: str, prefix: str, map_parts: MapParts
) -> Corpus:
    """Ingest everything, write the quarantine, and compare.

    The quarantine is written before anything can fail for too many refused rows, and the rows that share something with an
    evaluation set before they can stop the run: the reader of the error wants to know which.

    Raises:
        DataError: If too many rows of a source were refused, a training comment is in the test set, or a source shares too
            much with an evaluation set (each as configured), or validation is wanted and nothing can be held out.
    """
    settings = IngestSettings(
        store_uri, prefix, config.data, reading.taxonomy, reading.changes, reading.base.uri, reading.base.digest,
        config.training.max_seq_len, config.prompt.variant, config.seed,
    )  # fmt: skip
    test, *sources = ingest_all(reading, settings, map_parts)
    store = open_store(store_uri)
    _write_quarantine(store, prefix, (test, *sources))
    for source in (test, *sources):
        if config.data.damaged_files == "error":
            source.check_files()
        source.check_quarantine(config.data.max_quarantine_ratio)
    files = [file for source in (test, *sources) for file in source.list_part_files()]
    compare = keep_here(map_parts)  # its tasks share a folder of this machine
    with tempfile.TemporaryDirectory(prefix="nightforge-compare-") as name:
        duplicates = find_duplicates(
            files, config.data.duplicates, seed=config.seed, work_folder=Path(name), map_parts=compare
        )
        sets = read_evaluation_sets([file for file in files if file.is_test], config.evaluation.mmlu.dataset)
        contamination = find_contamination(
            files,
            sets,
            config.data.contamination,
            dropped=duplicates.dropped,
            work_folder=Path(name),
            map_parts=compare,
        )
    _write_overlaps(settings, list_overlaps(duplicates, contamination, files))
    if config.data.duplicates.leakage == "error":
        check_leakage(duplicates)
    check_contamination(contamination, config.data.contamination.max_ratio)
    usable = choose_usable(sources, dict(duplicates.dropped))
    held_out: tuple[HeldOut, ...] = ()
    validation = config.training.validation
    if validation.every_steps:
        held_out = choose_held_out(
            usable, duplicates.groups, rows_per_stratum=validation.rows_per_stratum, seed=config.seed
        )
    return Corpus(test, tuple(sources), duplicates, contamination, held_out, take_out(usable, held_out))


def ingest_all(reading: Reading, settings: IngestSettings, map_parts: MapParts) -> Iterator[Source]:
    """Ingest every split of every source in one go and yield the sources, the test set first."""
    tasks = [
        IngestTask(settings, source, split, index)
        for source, listed in reading.sources
        for index, split in enumerate(listed.splits)
    ]
    progress = Progress("ingest", len(tasks), "parts")
    results: dict[str, list[PartResult]] = defaultdict(list)
    statistics: dict[str, PartStatistics] = defaultdict(PartStatistics)
    for result in map_parts(ingest_part, tasks):
        statistics[result.source].include(result.statistics)
        result.statistics = PartStatistics()
        results[result.source].append(result)
        progress.advance()
    progress.finish()
    for source, listed in reading.sources:
        parts = tuple(sorted(results[source.name], key=lambda part: part.index))
        yield Source(
            source,
            listed.splits,
            listed.skipped,
            parts,
            statistics[source.name],
            reading.watermarks.get(source.name) if source.date_partitions else None,
            None if listed.newest_day is None else listed.newest_day.isoformat(),
        )


def list_stored_files(sources: Sequence[Source]) -> list[StoredFile]:
    """Return the files of accepted rows and tokens."""
    return [
        file for source in sources for part in source.parts for file in (part.rows, part.tokens) if file is not None
    ]


def read_records(source: Source) -> Iterator[str]:
    """Yield the accepted rows of a source as JSON lines."""
    for part in source.parts:
        if part.rows is not None:
            yield from read_column(localise(part.rows), "record")


def _write_overlaps(settings: IngestSettings, lines: Iterator[str]) -> None:
    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    store_file(settings.store_uri, settings.prefix, OVERLAPS, write)


def _write_quarantine(store: Store, prefix: str, sources: Sequence[Source]) -> None:
    """Join the parts' refused rows in one file."""
    with tempfile.TemporaryDirectory(prefix="nightforge-quarantine-") as folder:
        path = Path(folder) / QUARANTINE
        with path.open("wb") as joined:
            for source in sources:
                for part in source.parts:
                    if part.quarantine is not None:
                        joined.write(localise(part.quarantine).read_bytes())
                for uri, reason in source.skipped:
                    document: dict[str, Any] = {"source": source.name, "file": uri, "line": None, "reason": reason}
                    joined.write(json.dumps(document | {"detail": "the file was not read"}).encode() + b"\n")
        store.upload_file(path, f"{prefix}/{QUARANTINE}")
    store.delete_prefix(f"{prefix}/quarantine")
