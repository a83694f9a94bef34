"""Our side of `vs_trl`: the steps of `training.loop.train` without Ray, checkpoints and export.

    python -m benchmarks.train.ours --base DIR --rows DIR

`--rows` is what `benchmarks.train.rows` wrote. The last line of its output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from benchmarks.train.side import SAMPLES, StepClock, read_recipe
from corpus.mixing.samples import Sample, SampleReader
from training.engine.batches import Batch, Document, build_batch, plan_packed_passes
from training.engine.model import load_model
from training.engine.optim import build_optimizers, learning_rate_ratio, set_learning_rates
from training.engine.process_group import join_ranks
from training.engine.step import compute_gradients, reduce_figures, update
from voc.config.training import TrainingConfig
from voc.errors import TrainingError
from voc.store.local import LocalStore
from voc.store.manifest import read_manifest


def train(base: Path, rows: Path, clock: StepClock) -> None:
    """Train all steps of the recipe in this process."""
    training = TrainingConfig(**read_recipe(rows)["training"])
    store = LocalStore(rows)
    manifest = read_manifest(store, SAMPLES)
    if manifest is None:
        raise TrainingError(f"{rows / SAMPLES} has no manifest", remedy="run `python -m benchmarks.train.rows` first")
    reader = SampleReader(store, SAMPLES, manifest)
    torch.set_num_threads(training.cpus_per_worker)
    with join_ranks(use_gpu=False) as ranks:
        model = load_model(base, training, ranks)
        optimizers = build_optimizers(model, training.optimizer)
        clock.start()
        for step in range(training.max_steps):
            samples = reader.read_step(step)
            passes = lay_out(samples, training)
            tokens = sum(len(sample.input_ids) for sample in samples)
            learned = sum(int((batch.targets >= 0).sum()) for batch in passes)
            counts = {"num_targets": learned, "num_tokens": tokens, "world_size": 1}
            loss_sum = compute_gradients(model, passes, **counts, syncs_every_pass=False)
            totals = reduce_figures(model, passes, loss_sum, learned)
            set_learning_rates(optimizers, learning_rate_ratio(step, training.max_steps, training.optimizer))
            update(model, optimizers, totals.grad_norm, training.optimizer.max_grad_norm)
            clock.end_step(loss=totals.loss, tokens=tokens, learned=learned, slots=tokens)


def lay_out(samples: list[Sample], training: TrainingConfig) -> list[Batch]:
    """Return the forward passes of a step: its packed rows."""
    documents = [Document(sample.input_ids, sample.labels) for sample in samples]
    (plan,) = plan_packed_passes([sample.row for sample in samples], 1, training.micro_batch_size)
    shares = training.shares_prefixes
    return [build_batch([documents[i] for i in part], pad_id=0, shares_prefixes=shares) for part in plan]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    arguments = parser.parse_args()
    clock = StepClock()
    train(arguments.base, arguments.rows, clock)
    print(json.dumps(clock.to_json()), flush=True)


if __name__ == "__main__":
    main()
