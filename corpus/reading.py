"""What a run is about to read: taxonomy, changes, base, and the files of every source that are new enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from corpus.base_model import BaseModel, open_base
from corpus.part_tasks import TEST
from corpus.source_files import UNFINISHED_UPLOADS
from corpus.splits import SplitList, digest_files, list_splits
from corpus.task_runner import MapParts
from corpus.template_check import check_template
from voc.config.data import SourceConfig
from voc.config.night import NightforgeConfig
from voc.labels.changes import TaxonomyChanges, parse_changes
from voc.labels.taxonomy import Taxonomy, parse_taxonomy
from voc.prompts import hash_prompt
from voc.store.base import Store
from voc.store.champion import read_champion
from voc.store.layout import RunLayout
from voc.store.manifest import digest_bytes, digest_json, read_manifest
from voc.store.uri import read_uri

PREPARATION_VERSION = 2
WATERMARKS = "watermarks"  # in a manifest's facts: up to which day the run has read each source
READ_AFTER = "read_after"  # the same of the run before it, behind which its own reading began


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
    data, training = config.data, config.training
    taxonomy_bytes = read_uri(data.taxonomy)
    taxonomy = parse_taxonomy(taxonomy_bytes.decode(), data.taxonomy)
    changes_bytes = read_uri(data.taxonomy_changes) if data.taxonomy_changes else b""
    changes = (
        parse_changes(changes_bytes.decode(), str(data.taxonomy_changes), taxonomy) if data.taxonomy_changes else None
    )
    base = open_base(config.model.base, max_seq_len=training.max_seq_len)
    check_template(base, variant=config.prompt.variant, taxonomy=taxonomy)
    watermarks = read_watermarks(store, data_prefix)
    listed = [SourceConfig(name=TEST, uri=data.test, format="voc"), *data.sources]
    sources = tuple((source, _list(source, watermarks)) for source in listed)
    inputs = {
        "version": PREPARATION_VERSION,
        "taxonomy": taxonomy.digest,
        "taxonomy_changes": digest_bytes(changes_bytes),
        "data": digest_json(data.model_dump(mode="json")),
        "files": {source.name: digest_files(splits, map_parts) for source, splits in sources},
        "unfinished": {source.name: _list_unfinished(splits) for source, splits in sources},
        "replayed": {source.name: [s.uri for s in splits.splits if s.is_replay] for source, splits in sources},
        "prompt": hash_prompt(config.prompt.variant, taxonomy),
        "base": base.digest,
        "max_seq_len": training.max_seq_len,
        "arms": [arm.model_dump(mode="json") for arm in config.arms],
        "steps": [training.max_steps, training.global_batch_size, training.batch_unit],
        "held_out": training.validation.rows_per_stratum if training.validation.every_steps else 0,
        "mmlu": config.evaluation.mmlu.dataset,
        "seed": config.seed,
    }
    return Reading(taxonomy, changes, base, sources, watermarks, inputs)


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


def _list_unfinished(splits: SplitList) -> list[tuple[str, str]]:
    return [(uri, reason) for uri, reason in splits.skipped if reason in UNFINISHED_UPLOADS]


def _list(source: SourceConfig, watermarks: Mapping[str, str]) -> SplitList:
    day = watermarks.get(source.name) if source.date_partitions else None
    return list_splits(source, watermark=None if day is None else date.fromisoformat(day))
