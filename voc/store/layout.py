"""Every object key of a run, in one place.

A run is `runs/<run_id>/`; models that outlive a run are in `models/`; the champion log is `champion/`; finished shards that
later runs may use again are in `cache/`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from voc.errors import ConfigError

CHAMPION_PREFIX = "champion"
MODELS_PREFIX = "models"
CACHE_PREFIX = "cache"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_MAX_RUN_ID = 80


def check_name(name: str, what: str) -> str:
    """Return `name` if it may be part of a key.

    Raises:
        ConfigError: If it holds anything but letters, digits, `_`, `.` and `-`, or is longer than 100.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"the {what} {name!r} cannot be part of an object key",
            expected="1 to 100 letters, digits, '_', '.' or '-', the first a letter or digit",
        )
    return name


def model_key(name: str) -> str:
    """Return the folder of a model that outlives a run."""
    return f"{MODELS_PREFIX}/{check_name(name, 'model')}"


def result_cache_key(suite: str, digest: str) -> str:
    """Return the folder of a finished shard that outlives its run, by the hash of what its answers depend on."""
    return f"{CACHE_PREFIX}/evaluation/{check_name(suite, 'suite')}/{digest}"


def make_run_id(label: str) -> str:
    """Turn any label (an Airflow run id, say) into a run id; different labels stay different.

    Characters outside the safe set become `-`; when anything was changed, a short hash of the label is appended.
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", label).strip("-._") or "run"
    if safe == label and len(label) <= _MAX_RUN_ID:
        return label
    return f"{safe[:_MAX_RUN_ID]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class RunLayout:
    """The keys of one run."""

    run_id: str

    def __post_init__(self) -> None:
        check_name(self.run_id, "run id")

    @property
    def root(self) -> str:
        """The run's directory."""
        return f"runs/{self.run_id}"

    @property
    def config(self) -> str:
        """The resolved configuration with its hash."""
        return f"{self.root}/config.json"

    @property
    def models(self) -> str:
        """The models that this run evaluates, references first: written by `prepare`, so a retry sees the same list."""
        return f"{self.root}/models.json"

    @property
    def data(self) -> str:
        """The accepted rows and their tokens, the taxonomy, the quarantine, the data report and card."""
        return f"{self.root}/data"

    @property
    def validation(self) -> str:
        """The rows that were held out of every arm, their losses' ground."""
        return f"{self.root}/validation"

    def mixture(self, arm: str) -> str:
        """The plan of what an arm draws from each source."""
        return f"{self.arm(arm)}/mixture.json"

    def arm(self, arm: str) -> str:
        """Everything that belongs to one training arm."""
        return f"{self.root}/arms/{check_name(arm, 'arm')}"

    def checkpoints(self, arm: str) -> str:
        """The folder of an arm's checkpoints, one directory per step."""
        return f"{self.arm(arm)}/checkpoints"

    def checkpoint(self, arm: str, step: int) -> str:
        """One checkpoint, finished when its manifest is there."""
        return f"{self.checkpoints(arm)}/step-{step:08d}"

    def tracking(self, arm: str) -> str:
        """What grows while an arm is trained: metrics.jsonl so far, TensorBoard's files; never finished."""
        return f"{self.arm(arm)}/tracking"

    def startup(self, arm: str) -> str:
        """Where the time before the first step went, of the newest start."""
        return f"{self.arm(arm)}/startup.json"

    def samples(self, arm: str) -> str:
        """An arm's samples in training order, in shards that ranks read step by step."""
        return f"{self.arm(arm)}/samples"

    def bad_steps(self, arm: str) -> str:
        """The steps of an arm whose loss was out of line, each with its samples."""
        return f"{self.arm(arm)}/bad_steps.jsonl"

    def export(self, arm: str) -> str:
        """The exported model: safetensors, tokenizer, config."""
        return f"{self.arm(arm)}/export"

    def training(self, arm: str) -> str:
        """What training leaves beside the model: metrics.jsonl, verification card; its manifest means *trained*."""
        return f"{self.arm(arm)}/training"

    def evaluation(self, model: str) -> str:
        """Everything measured on one model."""
        return f"{self.root}/evaluation/{check_name(model, 'model')}"

    def endpoint(self, model: str) -> str:
        """Where the model is served: written by the serve job once it is healthy, removed when it stops."""
        return f"{self.evaluation(model)}/endpoint.json"

    def shard(self, model: str, suite: str, shard: int, num_shards: int) -> str:
        """The directory of one shard of one suite."""
        return f"{self.evaluation(model)}/{check_name(suite, 'suite')}/shard-{shard:03d}-of-{num_shards:03d}"

    def results(self, model: str) -> str:
        """One model's gathered figures."""
        return f"{self.evaluation(model)}/results"

    @property
    def decision(self) -> str:
        """The verdict with its reasons."""
        return f"{self.root}/decision.json"

    @property
    def promotion(self) -> str:
        """What the promote stage did, and why."""
        return f"{self.root}/promotion.json"

    @property
    def report(self) -> str:
        """The report: HTML, JSON, Parquet, plots."""
        return f"{self.root}/report"

    @property
    def timings(self) -> str:
        """The folder of wall times, one small object per stage."""
        return f"{self.root}/timings"
