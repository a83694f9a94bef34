"""One arm's training job: what it was asked to do, checked before a worker starts, and the samples it trains on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from corpus.encoding.base_model import BaseModel, open_base
from corpus.mixing.samples import SampleReader
from voc.config.night import NightforgeConfig
from voc.config.training import PLACEMENT, ExpertsConfig, TrainingConfig
from voc.errors import ConfigError, TrainingError
from voc.mixture import MixturePlan, parse_mixture
from voc.run import Run
from voc.store.manifest import Manifest, digest_bytes, is_finished, read_manifest

# What a trained model depends on: every key of the configuration, unless it is named in one of these two tables. A key that is
# added later counts until somebody names it here: a training too many is better than a stale model that is taken for a new one.
#
# Sections whose effect on an arm is counted by content: the digests of data, mixture, samples, held-out rows and base.
_COUNTED_BY_DIGEST: dict[str, Any] = {"data": True, "model": True, "prompt": True, "arms": True}
# Placement: where, how visibly and how long an arm is trained and what is done with it afterwards, not what comes out.
_PLACEMENT: dict[str, Any] = {
    "name": True,
    "preset": True,  # the training section is saved resolved
    "store": True,
    "extra_models": True,
    "external_models": True,
    "serving": True,
    "evaluation": True,
    "decision": True,
    "promotion": True,
    "training": {**dict.fromkeys(PLACEMENT, True), "experts": {"parallel_size"}},
}
# Under which names architectures state how many experts a layer has.
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a rank needs to train one arm.

    Attributes:
        run: The run.
        arm: Name of the arm.
        base: The checked base model.
        plan: What the arm draws from each source.
        data: Manifest of the prepared data.
        shards: Manifest of the arm's samples.
        held_out: Manifest of the rows for validation, or None.
        inputs: What the result depends on, for manifests.
    """

    run: Run
    arm: str
    base: BaseModel
    plan: MixturePlan
    data: Manifest
    shards: Manifest
    held_out: Manifest | None
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
    def batch_options(self) -> dict[str, Any]:
        """What `build_batch` is told for every pass: the padding token, what is shared, and the shape where it must stay."""
        tokenizer, training = self.base.tokenizer, self.training
        pad_id = int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
        if training.compile != "layers":
            return {"pad_id": pad_id, "shares_prefixes": training.shares_prefixes}
        # A compiled layer is compiled again for every new shape.
        padded_length = training.micro_batch_size * training.max_seq_len
        return {"pad_id": pad_id, "padded_length": padded_length, "longest": training.max_seq_len}

    @cached_property
    def samples(self) -> SampleReader:
        """The samples in training order, read step by step and verified shard by shard."""
        return SampleReader(self.run.store, self.run.layout.samples(self.arm), self.shards)


def open_job(run: Run, arm: str, *, base_digest: str | None = None) -> TrainingJob:
    """Open an arm's job and make the checks that need no worker.

    Args:
        run: A run whose data is prepared.
        arm: Name of the arm.
        base_digest: Digest of the base, where it is known: hashing a large model takes minutes.

    Raises:
        ConfigError: If the arm does not exist, or the settings of experts do not fit the base.
        TrainingError: If the data is not prepared, was prepared with another base or has fewer rows than there are workers, or
            early stop has no general rows to watch.
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
    shards = read_manifest(run.store, layout.samples(arm))
    if shards is None:
        raise TrainingError(
            f"arm {arm!r} has no samples: {run.store.uri}/{layout.samples(arm)} has no manifest",
            remedy="delete the run's data directory and run `python -m training prepare` again",
        )
    held_out = _read_held_out(run)
    base = open_base(config.model.base, max_seq_len=config.training.max_seq_len, digest=base_digest)
    if data.inputs["base"] != base.digest:
        raise TrainingError(
            f"the base {base.uri} has digest {base.digest[:12]}, the data was prepared for {data.inputs['base'][:12]}",
            expected="the same model",
            remedy="start a new run: the base was replaced while this one was under way",
        )
    check_experts(json.loads((base.folder / "config.json").read_text(encoding="utf-8")), config.training.experts)
    mixture = run.store.read_bytes(layout.mixture(arm))
    inputs = {
        "arm": arm,
        **list_settings(config),
        "mixture": digest_bytes(mixture),
        "data": data.digest,
        "samples": shards.digest,
        "base": base.digest,
    }
    if held_out is not None:
        inputs["held_out"] = held_out.digest
    plan = parse_mixture(json.loads(mixture))
    _check_rows(arm, plan, config.training.num_workers)
    return TrainingJob(run, arm, base, plan, data, shards, held_out, inputs)


def list_settings(config: NightforgeConfig) -> dict[str, Any]:
    """Return the keys of a configuration that count as they stand: all that are not named as an exception above."""
    return config.model_dump(mode="json", exclude={**_COUNTED_BY_DIGEST, **_PLACEMENT})


def _check_rows(arm: str, plan: MixturePlan, num_workers: int) -> None:
    """Check that there is something for every worker to learn."""
    num_rows = sum(min(share.num_rows, share.num_samples) for share in plan.shares)
    if num_rows < num_workers:
        raise TrainingError(
            f"arm {arm!r} draws {num_rows} different rows, training.num_workers is {num_workers}",
            expected="at least one row per worker",
            remedy="lower training.num_workers, or give the arm more data",
        )


def _read_held_out(run: Run) -> Manifest | None:
    """Return the manifest of the rows for validation, if the configuration wants it."""
    validation = run.config.training.validation
    if not validation.every_steps:
        return None
    held_out = read_manifest(run.store, run.layout.validation)
    if held_out is None:
        raise TrainingError(
            f"no rows are held out: {run.store.uri}/{run.layout.validation} has no manifest",
            remedy="delete the run's data directory and run `python -m training prepare` again",
        )
    if validation.early_stop.patience and all(fact["format"] != "general" for fact in held_out.facts["strata"]):
        raise TrainingError(
            "training.validation.early_stop watches the loss of general rows, and none are held out",
            expected="a source with format general and ten usable rows of one category",
            remedy="add such a source (no arm has to draw from it), or set early_stop.patience to 0",
        )
    return held_out


def check_experts(model: Mapping[str, Any], experts: ExpertsConfig) -> None:
    """Check that a model, whose `config.json` is given, has what the settings of its experts need.

    Raises:
        ConfigError: If they ask for what a dense model lacks, or its experts cannot be divided so.
    """
    text = model.get("text_config", model)
    count = next((int(text[name]) for name in _EXPERT_COUNTS if text.get(name)), 0)
    problems = []
    if experts.router_aux_loss_weight > 0 and not count:
        problems.append(f"router_aux_loss_weight is {experts.router_aux_loss_weight} and the base has no experts")
    if experts.parallel_size > 1 and (not count or count % experts.parallel_size):
        problems.append(f"parallel_size is {experts.parallel_size} and the base has {count or 'no'} experts")
    if problems:
        raise ConfigError(
            f"training.experts does not fit the base, a {model.get('model_type')}: {'; '.join(problems)}",
            expected="weight 0 and parallel_size 1 for a dense model; for others a parallel_size that divides the experts",
        )


def is_trained(job: TrainingJob) -> bool:
    """Tell whether the arm was trained and exported from the same inputs."""
    store, layout = job.run.store, job.run.layout
    return is_finished(store, layout.training(job.arm), job.inputs) and is_finished(
        store, layout.export(job.arm), job.inputs
    )
