"""The checks of `voc.preflight.preflight` that look at data: what can be seen in seconds, without a tokenizer.

A source that is one JSONL file of moderate size is read as a whole. Of a larger one the first rows are read; of folders, prefixes
and other formats it is only seen that there are files. `prepare` reads and checks everything, before an accelerator is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from voc.config.arms import ArmConfig
from voc.config.data import DataConfig, SourceConfig
from voc.config.night import NightforgeConfig
from voc.errors import ObjectNotFoundError, TaxonomyError
from voc.labels.changes import TaxonomyChanges, parse_changes
from voc.labels.taxonomy import Taxonomy, parse_taxonomy
from voc.mixture import Stratum, plan_mixture
from voc.records.checks import RowChecks
from voc.records.records import Accepted, VocRecord, check_quarantine, read_general_rows, read_voc_rows
from voc.records.redaction import Redactor
from voc.store.uri import open_uri, read_uri

MAX_READ_BYTES = 8 << 20

T = TypeVar("T")


@dataclass(frozen=True)
class RowReader:
    """Reads customer records as `prepare` will, but for the language of a comment: its model is not in every environment.

    Attributes:
        data: The data section.
        taxonomy: The labels.
        changes: How labels of older taxonomies are carried over, or None.
    """

    data: DataConfig
    taxonomy: Taxonomy
    changes: TaxonomyChanges | None

    def read(self, raw: bytes) -> Accepted[VocRecord]:
        """Read JSONL; what is said about refused rows holds no personal data that the configuration redacts."""
        checks = RowChecks(self.data.label_matching, self.data.overlapping_segments)
        return redact_refusals(read_voc_rows(raw, self.taxonomy, checks=checks, changes=self.changes), self.data)


def redact_refusals(accepted: Accepted[T], data: DataConfig) -> Accepted[T]:
    """Return the same with what is said about refused rows redacted."""
    redactor = Redactor(data.redaction.kinds, data.redaction.order_number_pattern)
    refused = tuple(replace(row, detail=redactor.redact(row.detail)[0]) for row in accepted.rejections)
    return Accepted(accepted.rows, refused)


def check_taxonomy(data: DataConfig) -> tuple[RowReader, str]:
    """Read the taxonomy and its changes.

    Raises:
        TaxonomyError: If one is broken.
        ObjectNotFoundError: If one is not there.
    """
    taxonomy = parse_taxonomy(_read_text(data.taxonomy), data.taxonomy)
    changes = None
    if data.taxonomy_changes is not None:
        changes = parse_changes(_read_text(data.taxonomy_changes), data.taxonomy_changes, taxonomy)
    return RowReader(data, taxonomy, changes), f"{data.taxonomy}: {len(taxonomy.leaves)} leaves"


def check_test(data: DataConfig, reader: RowReader | None) -> tuple[frozenset[str], str]:
    """Read the whole test set and return its comments.

    Raises:
        DataError: If it is empty, or more of it is refused than allowed.
    """
    raw = read_uri(data.test)
    if reader is None:
        return frozenset(), _without_taxonomy(data.test)
    accepted = reader.read(raw)
    check_quarantine(accepted, data.test, data.max_quarantine_ratio)
    return _comments(accepted), _describe_rows(data.test, accepted)


def check_source(
    source: SourceConfig, data: DataConfig, reader: RowReader | None, test_comments: frozenset[str]
) -> tuple[dict[Stratum, int] | None, str]:
    """Look at a training source; if it was read as a whole, return how many rows are usable, per category if it has any.

    Raises:
        DataError: If it is empty, or more of it is refused than allowed.
    """
    if not _is_one_jsonl(source):
        return None, _describe_files(source)
    raw, is_whole = _read_head(source.uri)
    if source.format == "general":
        general = redact_refusals(read_general_rows(raw), data)
        check_quarantine(general, source.uri, data.max_quarantine_ratio)
        counts = Counter(Stratum(source.name, row.category) for row in general.rows)
        return (dict(counts) if is_whole else None), _describe_rows(source.uri, general, is_whole=is_whole)
    if reader is None:
        return None, _without_taxonomy(source.uri)
    accepted = reader.read(raw)
    check_quarantine(accepted, source.uri, data.max_quarantine_ratio)
    shared = len(_comments(accepted) & test_comments)
    also = f", {shared} comments are also in the test set" if shared else ""
    counts = Counter({Stratum(source.name): len(accepted.rows)})
    return (dict(counts) if is_whole else None), _describe_rows(source.uri, accepted, is_whole=is_whole) + also


def _read_text(uri: str) -> str:
    try:
        return read_uri(uri).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TaxonomyError(f"{uri} is not UTF-8: {error.reason} at byte {error.start}") from error


def check_arm(arm: ArmConfig, config: NightforgeConfig, num_rows: Mapping[Stratum, int]) -> tuple[None, str]:
    """Plan the arm's mixture by rows; weights in tokens are planned by `prepare`, which has the tokenizer.

    Raises:
        MixtureError: If the mixture cannot be drawn.
    """
    num_samples = config.training.max_steps * config.training.global_batch_size
    plan = plan_mixture(num_rows, arm.sources, num_samples=num_samples, seed=config.seed)
    if arm.unit != "samples" or config.training.batch_unit == "rows":
        shares = ", ".join(f"{s.stratum} {s.weight:.1%}" for s in plan.shares)
        return None, f"{num_samples} {config.training.batch_unit}, shared by {arm.unit.replace('_', ' ')}: {shares}"
    shares = ", ".join(f"{s.stratum} {s.num_samples} ({s.epochs:.2f} passes)" for s in plan.shares)
    return None, f"{num_samples} samples: {shares}"


def _comments(accepted: Accepted[VocRecord]) -> frozenset[str]:
    return frozenset(record.comment for record in accepted.rows)


def _describe_rows(uri: str, accepted: Accepted[T], *, is_whole: bool = True) -> str:
    refused = ", ".join(f"{reason} {count}" for reason, count in accepted.counts.items())
    head = "" if is_whole else "the first "
    return f"{uri}: {head}{len(accepted.rows)} rows" + (f", refused: {refused}" if refused else "")


def _without_taxonomy(uri: str) -> str:
    return f"{uri} is there; its rows were not checked, because data.taxonomy cannot be used"


def _is_one_jsonl(source: SourceConfig) -> bool:
    return source.reader in {"auto", "jsonl"} and source.uri.endswith(".jsonl") and not source.date_partitions


def _read_head(uri: str) -> tuple[bytes, bool]:
    """Return the object, or of a large one its first whole lines, and whether it is the whole."""
    store, key = open_uri(uri)
    with store.open_stream(key) as stream:
        data = stream.read(MAX_READ_BYTES + 1)
    if len(data) <= MAX_READ_BYTES:
        return data, True
    return data[: data.rfind(b"\n") + 1], False


def _describe_files(source: SourceConfig) -> str:
    """Say what is there without reading it.

    Raises:
        ObjectNotFoundError: If nothing is there.
    """
    later = "its rows are read and checked by `prepare`"
    if source.reader == "datasets" and not Path(source.uri).exists():
        return f"{source.uri} is taken as a hub data set; that it exists was not checked"
    store, key = open_uri(source.uri)
    if store.exists(key):
        return f"{source.uri} is there; {later}"
    num_files = sum(1 for _ in store.list_keys(key))
    if not num_files:
        raise ObjectNotFoundError(f"{source.uri} does not exist, or is an empty folder", remedy="check the address")
    return f"{source.uri}: {num_files} files; {later}"
