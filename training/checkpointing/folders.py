"""The checkpoints of an arm as folders in the store: which are there, which one is continued, which ones stay.

A folder without a manifest is unfinished and passed over. A finished one that cannot be used (damaged, or made from other
data or settings) is passed over for the one before it; where none is left, training fails in place of starting over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.job import TrainingJob
from voc.errors import CheckpointError, IntegrityError, VocError
from voc.store.base import Store
from voc.store.manifest import MANIFEST_NAME, Manifest, digest_json, read_manifest
from voc.store.uri import open_uri

_STEP = re.compile(r"/step-(\d{8})/")


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """A finished checkpoint.

    Attributes:
        store: Where it is.
        prefix: Its key there.
        manifest: Its files and facts: `step`, `score` (least is best, or None), `resumed_from` (a digest, or None).
    """

    store: Store
    prefix: str
    manifest: Manifest

    @property
    def uri(self) -> str:
        """The address that `--resume-from` takes."""
        return f"{self.store.uri}/{self.prefix}"

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.manifest.facts["step"])

    @property
    def score(self) -> float:
        """The held-out loss; infinite where none was measured."""
        score = self.manifest.facts.get("score")
        return float(score) if score is not None and math.isfinite(score) else math.inf


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a training may go on from.

    Attributes:
        folders: Finished checkpoints that fit, the first choice first.
        passed_over: Why others were not taken, one sentence each.
        num_unusable: How many of those were finished.
    """

    folders: tuple[CheckpointFolder, ...]
    passed_over: tuple[str, ...]
    num_unusable: int


class CheckpointFolders:
    """The checkpoint folders of one arm.

    Args:
        job: The arm's job.
        resume_from: Key or URI of the checkpoint to begin with, in place of the arm's own or the base.
    """

    def __init__(self, job: TrainingJob, resume_from: str | None = None) -> None:
        self._store = job.run.store
        self._layout = job.run.layout
        self._arm = job.arm
        self._inputs = job.inputs
        self._keep = job.training.checkpoint.keep
        self._keep_best = job.training.checkpoint.keep_best
        self.start = None if resume_from is None else open_checkpoint(job, resume_from)

    def list_candidates(self) -> Candidates:
        """Return what may be continued, newest first.

        With an explicit beginning only checkpoints that came from it count, then the beginning itself.

        Raises:
            CheckpointError: If there are newer checkpoints that did not come from the explicit beginning.
        """
        folders, passed_over, num_unusable = [], [], 0
        for step in reversed(self._list_steps()):
            prefix = self._layout.checkpoint(self._arm, step)
            try:
                manifest = read_manifest(self._store, prefix)
            except IntegrityError as error:
                passed_over.append(f"the checkpoint of step {step} is skipped: {error}")
                num_unusable += 1
                continue
            if manifest is None:
                passed_over.append(f"the checkpoint of step {step} is skipped: it is unfinished")
            elif differing := list_differences(manifest.inputs, self._inputs):
                passed_over.append(
                    f"the checkpoint of step {step} is skipped: it was made from other inputs ({', '.join(differing)})"
                )
                num_unusable += 1
            else:
                folders.append(CheckpointFolder(self._store, prefix, manifest))
        if self.start is not None:
            folders = self._choose_after(self.start, folders)
        return Candidates(tuple(folders), tuple(passed_over), num_unusable)

    def drop_old(self) -> None:
        """Delete all finished checkpoints but the newest `checkpoint.keep` and the best."""
        finished = []
        for step in self._list_steps():
            prefix = self._layout.checkpoint(self._arm, step)
            manifest = _read_or_none(self._store, prefix)
            if manifest is not None:
                finished.append(CheckpointFolder(self._store, prefix, manifest))
        kept = {folder.prefix for folder in finished[-self._keep :]}
        if self.start is not None:  # a retry names it again
            kept.add(self.start.prefix)
        best = min(finished, key=lambda folder: folder.score, default=None)
        if self._keep_best and best is not None and best.score < math.inf:
            kept.add(best.prefix)
        for folder in finished:
            if folder.prefix not in kept:
                # The manifest first: what is half deleted must look unfinished, not damaged.
                self._store.delete_key(f"{folder.prefix}/{MANIFEST_NAME}")
                self._store.delete_prefix(folder.prefix)

    def explain_failure(self, passed_over: tuple[str, ...]) -> CheckpointError:
        """Return the error for an arm that has checkpoints of which none can be used."""
        where = f"{self._store.uri}/{self._layout.checkpoints(self._arm)}"
        return CheckpointError(
            f"arm {self._arm!r} has finished checkpoints and none can be used: {'; '.join(passed_over)}",
            expected="at least one that is whole and was made from the same data and settings",
            remedy=f"restore the files, or delete {where} to train from the base again",
        )

    def _choose_after(self, start: CheckpointFolder, folders: list[CheckpointFolder]) -> list[CheckpointFolder]:
        digest = start.manifest.digest
        own = [folder for folder in folders if folder.manifest.facts.get("resumed_from") == digest]
        stray = [f for f in folders if f not in own and f.step > start.step and f.prefix != start.prefix]
        if stray and not own:
            raise CheckpointError(
                f"arm {self._arm!r} is to resume from {start.uri} (step {start.step}), and has newer checkpoints that did "
                f"not come from it: {', '.join(f'step {folder.step}' for folder in stray)}",
                expected="no newer checkpoints, or those of an earlier try of this very resumption",
                remedy=f"delete them below {self._store.uri}/{self._layout.checkpoints(self._arm)}, or use another run",
            )
        return [*own, start]

    def _list_steps(self) -> list[int]:
        keys = self._store.list_keys(self._layout.checkpoints(self._arm))
        return sorted({int(match[1]) for key in keys if (match := _STEP.search(key))})


def open_checkpoint(job: TrainingJob, address: str) -> CheckpointFolder:
    """Open the checkpoint that somebody named.

    Args:
        job: The arm's job.
        address: A key in the run's store, or a URI.

    Raises:
        CheckpointError: If it does not exist, is not finished, lacks files, or was made from other data or settings.
    """
    store, prefix = _split_address(job.run.store, address)
    where = f"the checkpoint {address!r} to resume from"
    try:
        manifest = read_manifest(store, prefix)
    except VocError as error:
        raise CheckpointError(f"{where} cannot be read: {error}", remedy="name another one") from error
    if manifest is None:
        raise CheckpointError(
            f"{where} does not exist or is unfinished: {store.uri}/{prefix} has no {MANIFEST_NAME}",
            expected="a folder like runs/RUN/arms/ARM/checkpoints/step-00000100, as a key of the store or a URI",
            remedy="list the store; without --resume-from the arm's newest checkpoint is continued",
        )
    if "step" not in manifest.facts:
        raise CheckpointError(f"{where} is no checkpoint: its manifest names no step", remedy="name another one")
    if differing := list_differences(manifest.inputs, job.inputs):
        raise CheckpointError(
            f"{where} does not fit arm {job.arm!r}: {', '.join(differing)} differ",
            expected="the same data, mixture, base and training settings: else the steps after it would be others",
            remedy="name another one, or start this arm from the base",
        )
    sizes = dict(store.list_sizes(prefix))
    wrong = [e.path for e in manifest.files if sizes.get(f"{prefix}/{e.path}") != e.size_bytes]
    if wrong:
        raise CheckpointError(
            f"{where} is damaged: {', '.join(wrong[:3])} missing or of another size", remedy="name another one"
        )
    return CheckpointFolder(store, prefix, manifest)


def check_start(job: TrainingJob, resume_from: str | None) -> None:
    """Check, before workers start, that an arm has a checkpoint to go on from, or none at all.

    Raises:
        CheckpointError: If the explicit beginning cannot be used, or the arm has finished checkpoints and none fits.
    """
    folders = CheckpointFolders(job, resume_from)
    candidates = folders.list_candidates()
    if candidates.num_unusable and not candidates.folders:
        raise folders.explain_failure(candidates.passed_over)


def list_differences(seen: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Return the names of the inputs that differ."""
    names = sorted(seen.keys() | expected.keys())
    return [n for n in names if digest_json(seen.get(n)) != digest_json(expected.get(n))]


def _split_address(own: Store, address: str) -> tuple[Store, str]:
    if "://" not in address and not address.startswith("/"):
        return own, address.strip("/")
    store, key = open_uri(address)
    inside = f"{store.uri}/{key}".removeprefix(f"{own.uri}/")
    return (store, key) if "://" in inside else (own, inside)


def _read_or_none(store: Store, prefix: str) -> Manifest | None:
    """Return a manifest; None too if it is damaged: what it lists is left for a person to look at."""
    try:
        return read_manifest(store, prefix)
    except IntegrityError:
        return None
