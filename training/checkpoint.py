"""Checkpoints: every rank writes its shards of model and optimizer, the manifest comes last, the newest valid one is used.

Each rank saves to its own temporary folder and puts its files into the store, so the ranks need no common disk. Loading
reshards, so a run may continue with another number of workers.

Source: https://docs.pytorch.org/docs/stable/distributed.checkpoint.html
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.optim import Optimizer

from training.job import TrainingJob
from training.metrics import METRICS_NAME, StepFigures, read_metrics, write_metrics
from training.process_group import Ranks
from voc.errors import IntegrityError
from voc.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    describe_folder,
    digest_json,
    download_directory,
    read_manifest,
    verify_directory,
    write_manifest,
)
from voc.model_folder import cache_folder

_STEP = re.compile(r"/step-(\d{8})/")


class Checkpoints:
    """The checkpoints of one arm.

    Args:
        job: The arm's job.
        ranks: Where this process stands; every method is called by all ranks together.
    """

    def __init__(self, job: TrainingJob, ranks: Ranks) -> None:
        self._store = job.run.store
        self._layout = job.run.layout
        self._arm = job.arm
        self._inputs = job.inputs
        self._keep = job.training.checkpoint.keep
        self._ranks = ranks

    def save(
        self,
        step: int,
        model: torch.nn.Module,
        optimizers: Sequence[Optimizer],
        metrics: Sequence[Mapping[str, Any]],
    ) -> None:
        """Save the state after `step` optimizer steps and drop checkpoints beyond the newest `checkpoint.keep`."""
        prefix = self._layout.checkpoint(self._arm, step)
        if self._ranks.is_first:
            self._store.delete_prefix(prefix)
        dist.barrier()
        with tempfile.TemporaryDirectory(prefix="nightforge-checkpoint-") as name:
            folder = Path(name)
            dcp.save(_get_state(model, optimizers), storage_writer=dcp.FileSystemWriter(folder))
            if self._ranks.is_first:
                write_metrics(folder / METRICS_NAME, metrics)
            entries = describe_folder(folder)
            for entry in entries:
                self._store.upload_file(folder / entry.path, f"{prefix}/{entry.path}")
        gathered: list[tuple[FileEntry, ...] | None] = [None] * self._ranks.world_size
        dist.all_gather_object(gathered, entries)
        if self._ranks.is_first:
            files = sorted((e for part in gathered for e in part or ()), key=lambda e: e.path)
            write_manifest(self._store, prefix, Manifest(tuple(files), self._inputs, {"step": step}))
            self._drop_old()

    def load_newest(self, model: torch.nn.Module, optimizers: Sequence[Optimizer]) -> tuple[int, list[StepFigures]]:
        """Load the newest valid checkpoint.

        Returns:
            The optimizer steps done and their metrics: 0 and none if there is no valid checkpoint.
        """
        found = [self._find_newest() if self._ranks.is_first else None]
        dist.broadcast_object_list(found, 0)
        step = found[0]
        if step is None:
            return 0, []
        folder = self._bring(self._layout.checkpoint(self._arm, step))
        state = _get_state(model, optimizers)
        dcp.load(state, storage_reader=dcp.FileSystemReader(folder))
        set_state_dict(
            model,
            list(optimizers),
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        if self._ranks.is_first:
            print(f"{self._arm}: continues from the checkpoint of step {step}", flush=True)
        return step, read_metrics(folder / METRICS_NAME)

    def _find_newest(self) -> int | None:
        for step in reversed(self._list_steps()):
            prefix = self._layout.checkpoint(self._arm, step)
            try:
                manifest = verify_directory(self._store, prefix)
            except IntegrityError as error:
                print(f"{self._arm}: the checkpoint of step {step} is skipped: {error}", flush=True)
                continue
            if digest_json(manifest.inputs) == digest_json(self._inputs):
                return step
            print(f"{self._arm}: the checkpoint of step {step} is skipped: it was made from other inputs", flush=True)
        return None

    def _list_steps(self) -> list[int]:
        keys = self._store.list_keys(self._layout.checkpoints(self._arm))
        return sorted({int(match[1]) for key in keys if (match := _STEP.search(key))})

    def _bring(self, prefix: str) -> Path:
        """Return the checkpoint's folder on this machine; one rank per machine fetches it from a remote store."""
        path = self._store.local_path(prefix)
        if path is None:
            manifest = read_manifest(self._store, prefix)
            digest = manifest.digest if manifest else "none"
            path = cache_folder() / "checkpoints" / digest
            if self._ranks.local_rank == 0:
                download_directory(self._store, prefix, path)
            dist.barrier()
        return path

    def _drop_old(self) -> None:
        finished = [
            step
            for step in self._list_steps()
            if self._store.exists(f"{self._layout.checkpoint(self._arm, step)}/{MANIFEST_NAME}")
        ]
        for step in finished[: -self._keep]:
            self._store.delete_prefix(self._layout.checkpoint(self._arm, step))


def _get_state(model: torch.nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, Any]:
    model_state, optimizer_state = get_state_dict(model, list(optimizers))
    return {"model": model_state, "optimizer": optimizer_state}
