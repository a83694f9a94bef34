"""Checkpoints: every rank writes its shards of model and optimizer, the manifest comes last, the newest valid one is used.

Saving copies the state to CPU memory and lets training go on; files, upload and manifest are made in a thread, over a process
group of its own. Each rank saves to its own temporary folder and puts its files into the store, so the ranks need no common
disk. Loading reshards, so a run may continue with another number of workers.

Source: https://docs.pytorch.org/docs/stable/distributed.checkpoint.html
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.optim import Optimizer

from training.checkpointing.background import Background
from training.checkpointing.folders import CheckpointFolder, CheckpointFolders
from training.checkpointing.train_state import Stager, State, read_state, restore_state
from training.engine.process_group import Ranks
from training.job import TrainingJob
from training.metrics import METRICS_NAME, StepFigures, read_metrics, write_metrics
from voc.errors import CheckpointError, VocError
from voc.models.folder import cache_folder
from voc.store.base import Store
from voc.store.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    describe_folder,
    download_directory,
    verify_directory,
    write_manifest,
)
from voc.store.uri import open_store

_ABANDON_S = 60.0  # a training that fails waits this long for a checkpoint that is being written


class Checkpoints:
    """The checkpoints of one arm; a context manager that is left when the last one is in the store.

    Args:
        job: The arm's job.
        ranks: Where this process stands; every method is called by all ranks together.
        resume_from: Key or URI of the checkpoint to begin with.

    Raises:
        CheckpointError: If that one cannot be used.
    """

    def __init__(self, job: TrainingJob, ranks: Ranks, resume_from: str | None = None) -> None:
        self._job = job
        self._store = job.run.store
        self._is_asynchronous = job.training.checkpoint.asynchronous
        self._ranks = ranks
        self._folders = CheckpointFolders(job, resume_from)
        self._resumed_from: str | None = None
        self._saved_step = 0
        self._stager = Stager()
        self._background = Background("checkpoint")
        # Collectives of a thread must not meet those of the training.
        self._group = dist.new_group(backend="gloo")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.wait()
        else:
            self._abandon()
        self._stager.close()

    @property
    def has_failed(self) -> bool:
        """True if a checkpoint could not be written; `wait` says which and why."""
        return self._background.has_failed

    def save(
        self,
        step: int,
        model: torch.nn.Module,
        optimizers: Sequence[Optimizer],
        metrics: Sequence[Mapping[str, Any]],
        score: float | None = None,
    ) -> float:
        """Save the state after `step` optimizer steps and drop old checkpoints.

        Args:
            step: Steps done.
            model: The model.
            optimizers: Its optimizers.
            metrics: The figures of all steps done.
            score: Held-out loss at this step; the checkpoint with the least one is kept.

        Returns:
            Seconds for which the training stood still.

        Raises:
            CheckpointError: If this one, or the one before it, cannot be written.
        """
        start = time.monotonic()
        self.wait()
        state = read_state(model, optimizers)
        figures = [dict(line) for line in metrics]
        self._saved_step = step
        if self._is_asynchronous:
            self._background.start(partial(self._write, step, self._stager.stage(state), figures, score))
        else:
            self._write(step, state, figures, score)
        return time.monotonic() - start

    def wait(self) -> None:
        """Return when no checkpoint is being written.

        Raises:
            CheckpointError: If it could not be written.
        """
        try:
            self._background.wait()
        except CheckpointError:
            raise
        except Exception as error:
            raise self._explain(self._saved_step, repr(error)) from error

    def raise_failure(self) -> None:
        """Raise why a checkpoint could not be written, on a rank where all went well too.

        Raises:
            CheckpointError: Always.
        """
        self.wait()
        raise self._explain(self._saved_step, "another rank failed, see its message")

    def load_newest(self, model: torch.nn.Module, optimizers: Sequence[Optimizer]) -> tuple[int, list[StepFigures]]:
        """Load the newest valid checkpoint.

        Returns:
            The optimizer steps done and their metrics: 0 and none if there is no finished checkpoint.

        Raises:
            CheckpointError: If there are finished checkpoints and none can be used.
        """
        folders, passed_over, num_unusable = self._find()
        for folder in folders:
            path, problem = self._bring(folder)
            if problem is None:
                self._load(path, model, optimizers)
                return self._begin_after(folder, path)
            passed_over.append(f"the checkpoint of step {folder.step} is skipped: {problem}")
            num_unusable += 1
            self._print(passed_over[-1])
        if num_unusable:
            raise self._folders.explain_failure(tuple(passed_over))
        return 0, []

    def _find(self) -> tuple[list[CheckpointFolder], list[str], int]:
        """Return what the first rank finds in the store, on every rank."""
        found: list[Any] = [None]
        if self._ranks.is_first:
            try:
                candidates = self._folders.list_candidates()
                places = [(f.store.uri, f.prefix, f.manifest) for f in candidates.folders]
                found = [(places, candidates.passed_over, candidates.num_unusable)]
                for sentence in candidates.passed_over:
                    self._print(sentence)
            except VocError as error:
                found = [error]
        dist.broadcast_object_list(found, 0, group=self._group)
        if isinstance(found[0], VocError):
            raise found[0]
        places, passed_over, num_unusable = found[0]
        folders = [CheckpointFolder(self._open(uri), prefix, manifest) for uri, prefix, manifest in places]
        return folders, list(passed_over), num_unusable

    def _open(self, uri: str) -> Store:
        return self._store if uri == self._store.uri else open_store(uri)

    def _bring(self, folder: CheckpointFolder) -> tuple[Path, str | None]:
        """Return the checkpoint's verified folder on this machine, or what is wrong with it on any machine.

        One rank per machine fetches it from a remote store.
        """
        path, problem = folder.store.local_path(folder.prefix), None
        try:
            if path is None:
                path = _local_copy(folder)
                if self._ranks.local_rank == 0:
                    download_directory(folder.store, folder.prefix, path)
            elif self._ranks.is_first:
                verify_directory(folder.store, folder.prefix)
        except (VocError, OSError) as error:
            problem = str(error)
        problem = next((p for p in self._gather(problem) if p is not None), None)
        if problem is not None:
            self._drop_copy(folder)
        return path or Path(), problem

    def _load(self, path: Path, model: torch.nn.Module, optimizers: Sequence[Optimizer]) -> None:
        state = read_state(model, optimizers)
        try:
            dcp.load(state, storage_reader=dcp.FileSystemReader(path), process_group=self._group)
        except CheckpointException as error:
            raise CheckpointError(
                f"arm {self._job.arm!r}: the checkpoint in {path} is whole and cannot be loaded: {error}",
                expected="the tensors of this model and these optimizers",
                remedy="was it written by another version? Use that one, or delete it to train from the base again",
            ) from error
        restore_state(model, optimizers, state)

    def _begin_after(self, folder: CheckpointFolder, path: Path) -> tuple[int, list[StepFigures]]:
        metrics = read_metrics(path / METRICS_NAME)
        start = self._folders.start
        is_start = start is not None and start.manifest.digest == folder.manifest.digest
        self._resumed_from = folder.manifest.digest if is_start else folder.manifest.facts.get("resumed_from")
        self._saved_step = folder.step
        self._print(f"continues from the checkpoint of step {folder.step}" + (f", {folder.uri}" if is_start else ""))
        dist.barrier(group=self._group)
        self._drop_copy(folder)
        return folder.step, metrics

    def _drop_copy(self, folder: CheckpointFolder) -> None:
        """Delete what was fetched to this machine."""
        if self._ranks.local_rank == 0:
            shutil.rmtree(_local_copy(folder), ignore_errors=True)

    def _write(self, step: int, state: State, metrics: Sequence[Mapping[str, Any]], score: float | None) -> None:
        """Write, upload and commit one checkpoint; runs in the background where it is asynchronous."""
        prefix = self._job.run.layout.checkpoint(self._job.arm, step)
        entries: tuple[FileEntry, ...] = ()
        with tempfile.TemporaryDirectory(prefix="nightforge-checkpoint-") as name:
            folder, problem = Path(name), None
            # The copies in the store are what must survive a crash, so these need not be synced to the disk.
            writer = dcp.FileSystemWriter(folder, sync_files=False)
            try:
                dcp.save(state, storage_writer=writer, process_group=self._group)
            except CheckpointException as error:  # raised on every rank
                raise self._explain(step, str(error)) from error
            try:
                if self._ranks.is_first:
                    self._store.delete_key(f"{prefix}/{MANIFEST_NAME}")
                    write_metrics(folder / METRICS_NAME, metrics)
                entries = describe_folder(folder)
                for entry in entries:
                    self._store.upload_file(folder / entry.path, f"{prefix}/{entry.path}")
            except (VocError, OSError) as error:
                problem = str(error)
        # Whoever could not write says so: nobody waits for a rank that has failed.
        parts = self._gather((entries, problem))
        self._raise_problem(step, [problem for _, problem in parts])
        if self._ranks.is_first:
            problem = self._commit(step, prefix, [entry for part, _ in parts for entry in part], score)
        self._raise_problem(step, self._gather(problem if self._ranks.is_first else None))

    def _commit(self, step: int, prefix: str, entries: Sequence[FileEntry], score: float | None) -> str | None:
        """Finish a checkpoint whose files are in the store; return what went wrong."""
        files = tuple(sorted(entries, key=lambda entry: entry.path))
        facts = {
            "step": step,
            "score": score if score is not None and math.isfinite(score) else None,
            "world_size": self._ranks.world_size,
            "resumed_from": self._resumed_from,
        }
        try:
            written = {f"{prefix}/{entry.path}" for entry in files}
            for key in list(self._store.list_keys(prefix)):
                if key not in written:  # the rest of a checkpoint that was never finished
                    self._store.delete_key(key)
            write_manifest(self._store, prefix, Manifest(files, self._job.inputs, facts))
            self._folders.drop_old()
        except (VocError, OSError) as error:
            return str(error)
        return None

    def _raise_problem(self, step: int, problems: Sequence[str | None]) -> None:
        for rank, problem in enumerate(problems):
            if problem is not None:
                raise self._explain(step, f"rank {rank}: {problem}")

    def _explain(self, step: int, problem: str) -> CheckpointError:
        return CheckpointError(
            f"arm {self._job.arm!r}: the checkpoint of step {step} could not be written: {problem}",
            expected="a store that takes the files, and room in the temporary folder (TMPDIR) for this rank's shards",
            remedy="mend that; the same stage continues from the checkpoint before",
        )

    def _abandon(self) -> None:
        """Give the checkpoint that is being written a chance while the training fails for another reason."""
        try:
            if not self._background.wait(_ABANDON_S):
                self._print(f"the checkpoint of step {self._saved_step} was not finished: training failed meanwhile")
        except Exception as error:
            self._print(f"the checkpoint of step {self._saved_step} was not written: {error}")

    def _gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks."""
        values = [None] * self._ranks.world_size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def _print(self, sentence: str) -> None:
        if self._ranks.is_first:
            print(f"{self._job.arm}: {sentence}", flush=True)


def _local_copy(folder: CheckpointFolder) -> Path:
    return cache_folder() / "checkpoints" / folder.manifest.digest
