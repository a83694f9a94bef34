"""One arm's training job: what it was asked to do, checked before a worker starts, and the samples it trains on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from corpus.base_model import BaseModel, open_base
from training.data import EncodedSource, load_encoded, slice_step
from training.packing import Document
from voc.config import NightforgeConfig, TrainingConfig
from voc.errors import ConfigError, IntegrityError, TrainingError
from voc.manifest import Manifest, digest_bytes, is_finished, read_manifest
from voc.mixture import MixturePlan, draw_order, parse_mixture
from voc.run import Run

# Settings of the training section that decide where and how visibly an arm is trained, not what comes out.
_PLACEMENT = {
    "num_workers",
    "cpus_per_worker",
    "gpus_per_worker",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "log_every_steps",
    "max_failures",
    "start_timeout_s",
}


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a rank needs to train one arm.

    Attributes:
        run: The run.
        arm: Name of the arm.
        base: The checked base model.
        plan: What the arm draws from each source.
        data: Manifest of the prepared data.
        inputs: What the result depends on, for manifests.
    """

    run: Run
    arm: str
    base: BaseModel
    plan: MixturePlan
    data: Manifest
    inputs: dict[str, Any]

    @property
    def config(self) -> NightforgeConfig:
        """The run's configuration."""
        return self.run.config

    @property
    def training(self) -> TrainingConfig:
        """The training section."""
        return self.run.config.training

    @cached_property
    def samples(self) -> Samples:
        """The samples in training order, read and verified at first use."""
        return Samples([_read_source(self, share.name) for share in self.plan.shares], draw_order(self.plan))


@dataclass(frozen=True, slots=True)
class Samples:
    """The arm's samples.

    Attributes:
        sources: One per share of the mixture.
        order: (source index, row index) in training order.
    """

    sources: Sequence[EncodedSource]
    order: Sequence[tuple[int, int]]

    def read_step(self, step: int, global_batch_size: int) -> list[Document]:
        """Return the samples of a step, from 0."""
        return [self.sources[source][row] for source, row in slice_step(self.order, step, global_batch_size)]


def open_job(run: Run, arm: str, *, base_digest: str | None = None) -> TrainingJob:
    """Open an arm's job and make the checks that need no worker.

    Args:
        run: A run whose data is prepared.
        arm: Name of the arm.
        base_digest: Digest of the base, where it is known: hashing a large model takes minutes.

    Raises:
        ConfigError: If the arm does not exist.
        TrainingError: If the data is not prepared, or was prepared with another base.
        ModelError: If the base cannot be trained.
    """
    config, layout = run.config, run.layout
    names = [entry.name for entry in config.arms]
    if arm not in names:
        raise ConfigError(f"the run {layout.run_id!r} has no arm {arm!r}", expected=f"one of {', '.join(names)}")
    data = read_manifest(run.store, layout.data)
    if data is None:
        raise TrainingError(
            f"the data of {layout.run_id} is not prepared: {run.store.uri}/{layout.data} has no manifest",
            remedy="run `python -m training prepare` first",
        )
    base = open_base(config.model.base, max_seq_len=config.training.max_seq_len, digest=base_digest)
    if data.inputs["base"] != base.digest:
        raise TrainingError(
            f"the base {base.uri} has digest {base.digest[:12]}, the data was prepared for {data.inputs['base'][:12]}",
            expected="the same model",
            remedy="start a new run: the base was replaced while this one was under way",
        )
    mixture = run.store.read_bytes(layout.mixture(arm))
    settings = config.training.model_dump(mode="json", exclude=_PLACEMENT)
    inputs = {
        "arm": arm,
        "seed": config.seed,
        "training": settings,
        "mixture": digest_bytes(mixture),
        "data": data.digest,
        "base": base.digest,
    }
    return TrainingJob(run, arm, base, parse_mixture(json.loads(mixture)), data, inputs)


def is_trained(job: TrainingJob) -> bool:
    """Tell whether the arm was trained and exported from the same inputs."""
    store, layout = job.run.store, job.run.layout
    return is_finished(store, layout.training(job.arm), job.inputs) and is_finished(
        store, layout.export(job.arm), job.inputs
    )


def _read_source(job: TrainingJob, name: str) -> EncodedSource:
    path = f"{name}.npz"
    data = job.run.store.read_bytes(f"{job.run.layout.data}/{path}")
    expected = next((entry.sha256 for entry in job.data.files if entry.path == path), None)
    if digest_bytes(data) != expected:
        raise IntegrityError(
            f"{job.run.store.uri}/{job.run.layout.data}/{path} has SHA-256 {digest_bytes(data)}",
            expected=str(expected),
            remedy="delete the data directory of the run and prepare it again",
        )
    return load_encoded(data)
