"""From a configuration to usable rows: what a night reads is listed, every part is ingested, then all texts are compared.

`read_inputs` says what a run is about to read and what its result depends on; `build_corpus` reads it, compares the texts with
each other and with the evaluation sets, and leaves `quarantine.jsonl` and `overlaps.jsonl`. Unlike the report, which holds counts
and a few examples, the list of overlaps is complete. Like the quarantine it shows the beginning of each text: a chat has no id by
which its owner would find it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np

from corpus.comparison.contamination import (
    VOC_TEST,
    ContaminationFindings,
    check_contamination,
    find_contamination,
    read_evaluation_sets,
)
from corpus.comparison.duplicates import DuplicateFindings, check_leakage, find_duplicates
from corpus.encoding.base_model import BaseModel, open_base
from corpus.encoding.encode import check_template
from corpus.ground.results import OverlapLine
from corpus.ground.stored_file import StoredFile, localise, store_text
from corpus.ground.tasks import MapParts, keep_here
from corpus.mixing.held_out import Corpus, HeldOut, choose_held_out, take_out
from corpus.parts.ingest import TEST, IngestSettings, IngestTask, PartResult, ingest_part
from corpus.parts.part_files import PartFile, read_cells, read_column
from corpus.parts.source_rows import Source, choose_usable
from corpus.parts.statistics import PartStatistics
from corpus.sources.splits import UNFINISHED_UPLOADS, SplitList, digest_files, list_splits
from voc.config.data import SourceConfig
from voc.config.night import NightforgeConfig
from voc.config.training import PLACEMENT
from voc.errors import DataError
from voc.labels.changes import TaxonomyChanges, parse_changes
from voc.labels.taxonomy import Taxonomy, parse_taxonomy
from voc.progress import Progress
from voc.prompts import hash_prompt
from voc.store.base import Store
from voc.store.champion import read_champion
from voc.store.layout import RunLayout
from voc.store.manifest import digest_bytes, digest_json, read_manifest
from voc.store.uri import open_store, read_uri

QUARANTINE = "quarantine.jsonl"
OVERLAPS = "overlaps.jsonl"
PREPARATION_VERSION = 3
WATERMARKS = "watermarks"  # in a manifest's facts: up to which day the run has read each source
READ_AFTER = "read_after"  # the same of the run before it, behind which its own reading began
# The settings that prepared data does not depend on; every other one, a new one too, counts. They say where things run, what
# happens to the data afterwards, or name a place whose content counts by its digest.
NOT_PREPARED: dict[str, Any] = {
    "preset": True,  # what it says is in the training section
    "store": True,
    "model": {"base"},  # its files count
    "training": {
        **dict.fromkeys(PLACEMENT, True),
        # How the samples are learned that were drawn here.
        "max_wall_s": True,
        "micro_batch_size": True,
        "param_dtype": True,
        "master_dtype": True,
        "activation_checkpointing": True,
        "compile": True,
        "shared_prefixes": True,
        "gradient_sync": True,
        "loss_kernel": True,
        "loss_chunk_tokens": True,
        "experts": True,
        "optimizer": True,
        "guard": True,
        "validation": True,  # `held_out` counts: how many rows are held out, and none without evaluations
    },
    "serving": True,
    # Of what is measured later, only the questions that training rows are compared with count.
    "evaluation": {
        "voc": True,
        "mmlu": {
            "shards": True,
            "limit": True,
            "num_fewshot": True,
            "scoring": True,
            "system_prompt": True,
            "max_tokens": True,
            "concurrency": True,
        },
        "lm_eval_tasks": True,
        "bootstrap_resamples": True,
        "cache": True,
    },
    "decision": True,
    "promotion": True,
}
_SHOWN_CHARS = 200
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Reading:
    """What a run is about to read.

    Attributes:
        taxonomy: The labels.
        changes: How labels of older taxonomies are carried over, or None.
        base: The model that is trained.
        sources: The test set first, then the sources, each with its splits.
        watermarks: ISO day per date-partitioned source up to which the last promoted run had read.
        inputs: All that the result depends on.
    """

    taxonomy: Taxonomy
    changes: TaxonomyChanges | None
    base: BaseModel
    sources: tuple[tuple[SourceConfig, SplitList], ...]
    watermarks: Mapping[str, str]
    inputs: dict[str, Any]

    @property
    def new_watermarks(self) -> dict[str, str]:
        """ISO day per date-partitioned source up to which a run of this reading has read."""
        found = {source.name: splits.newest_day for source, splits in self.sources}
        return {name: day.isoformat() for name, day in found.items() if day is not None}


def read_inputs(config: NightforgeConfig, store: Store, map_parts: MapParts, *, data_prefix: str = "") -> Reading:
    """List what a run reads and digest all of it.

    Args:
        config: The run's configuration.
        store: Where the champion log and the runs are.
        map_parts: Runs one task per file.
        data_prefix: The run's data directory, if it has one.

    Raises:
        DataError: If a source has no files, or the taxonomy or its changes are broken.
        ModelError: If the base cannot be trained.
        ObjectNotFoundError: If something is not there.
    """
    data = config.data
    taxonomy_bytes = read_uri(data.taxonomy)
    taxonomy = parse_taxonomy(taxonomy_bytes.decode(), data.taxonomy)
    changes_bytes = read_uri(data.taxonomy_changes) if data.taxonomy_changes else b""
    changes = (
        parse_changes(changes_bytes.decode(), str(data.taxonomy_changes), taxonomy) if data.taxonomy_changes else None
    )
    base = open_base(config.model.base, max_seq_len=config.training.max_seq_len)
    check_template(base, variant=config.prompt.variant, taxonomy=taxonomy)
    watermarks = read_watermarks(store, data_prefix)
    listed = [SourceConfig(name=TEST, uri=data.test, format="voc"), *data.sources]
    sources = tuple((source, _list(source, watermarks)) for source in listed)
    inputs = {
        "version": PREPARATION_VERSION,
        "taxonomy": taxonomy.digest,
        "taxonomy_changes": digest_bytes(changes_bytes),
        "files": {source.name: digest_files(splits, map_parts) for source, splits in sources},
        "unfinished": {source.name: _list_unfinished(splits) for source, splits in sources},
        "replayed": {source.name: [s.uri for s in splits.splits if s.is_replay] for source, splits in sources},
        "prompt": hash_prompt(config.prompt.variant, taxonomy),
        "base": base.digest,
        **describe_settings(config),
    }
    return Reading(taxonomy, changes, base, sources, watermarks, inputs)


def describe_settings(config: NightforgeConfig) -> dict[str, Any]:
    """Return what of a configuration prepared data depends on: all of it, but for what `NOT_PREPARED` names."""
    validation = config.training.validation
    return {
        "settings": digest_json(config.model_dump(mode="json", exclude=NOT_PREPARED)),
        "held_out": validation.rows_per_stratum if validation.every_steps else 0,
    }


def read_watermarks(store: Store, data_prefix: str = "") -> dict[str, str]:
    """Return up to which day the last promoted run had read each source; empty before the first promotion.

    The champion log says which run that was, and the manifest of that run's data says what it had read: nothing else has to be
    kept, and a night that was not promoted is read again. A run that was prepared keeps to the days that it began behind: it
    may be started again after a promotion, even its own, and still reads the same.
    """
    own = read_manifest(store, data_prefix) if data_prefix else None
    if own is not None and READ_AFTER in own.facts:
        return dict(own.facts[READ_AFTER])
    champion = read_champion(store)
    manifest = None if champion is None else read_manifest(store, RunLayout(champion.run_id).data)
    return {} if manifest is None else dict(manifest.facts.get(WATERMARKS, {}))


def _list(source: SourceConfig, watermarks: Mapping[str, str]) -> SplitList:
    if source.name == TEST:  # a file of the test set is one part: its ids are compared while it is read
        return list_splits(source, watermark=None, split_bytes=sys.maxsize)
    day = watermarks.get(source.name) if source.date_partitions else None
    return list_splits(source, watermark=None if day is None else date.fromisoformat(day))


def _list_unfinished(splits: SplitList) -> list[tuple[str, str]]:
    return [(uri, reason) for uri, reason in splits.skipped if reason in UNFINISHED_UPLOADS]


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
    quarantine = store_text(store_uri, prefix, QUARANTINE, _list_refused((test, *sources)))
    open_store(store_uri).delete_prefix(f"{prefix}/quarantine")
    for source in (test, *sources):
        if config.data.damaged_files == "error":
            source.check_files()
        source.check_quarantine(config.data.max_quarantine_ratio)
    _check_test_ids(test)
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
    lines = (f"{line}\n" for line in list_overlaps(duplicates, contamination, files))
    overlaps = store_text(store_uri, prefix, OVERLAPS, lines)
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
    return Corpus(
        test, tuple(sources), duplicates, contamination, held_out, take_out(usable, held_out), (quarantine, overlaps)
    )


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


def _check_test_ids(test: Source) -> None:
    """Refuse a test set of several files that share an id; in one file, the later row is refused by itself.

    Raises:
        DataError: With the first such id.
    """
    seen: set[str] = set()
    for part in test.list_part_files():
        ids = set(read_column(Path(part.path), "id"))
        if repeated := sorted(seen & ids):
            raise DataError(
                f"{len(repeated)} ids of the test set {test.config.uri} are in several of its files, first {repeated[0]!r}",
                expected="every id once: results are counted by it",
                remedy="take the repeated rows out, or put the test set into one file, where they are refused one by one",
            )
        seen |= ids


def _list_refused(sources: Sequence[Source]) -> Iterator[str]:
    """Yield the refused rows of all parts, and after those of a source the files of it that were not read."""
    for source in sources:
        for part in source.parts:
            if part.quarantine is not None:
                yield localise(part.quarantine).read_text(encoding="utf-8")
        for uri, reason in source.skipped:
            document = {"source": source.name, "file": uri, "line": None, "reason": reason}
            yield json.dumps(document | {"detail": "the file was not read"}) + "\n"


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
            line = {
                **sides,
                "kind": kind,
                "row": row,
                "id": cell["id"],
                "item": item,
                "text": cell["text"][:_SHOWN_CHARS],
            }
            yield json.dumps(cast("OverlapLine", line), ensure_ascii=False)
