"""The training rows of `vs_trl`: the study corpus, tokenised and packed once by our own code, then handed to every side.

    python -m benchmarks.train.rows --rows DIR --base DIR --steps 30 --rows-per-step 2 --seq-len 2048 --output DIR

Writes `samples/` (our shards), `peer_samples/` (the same samples in the same order, `input_ids` and `labels`, for `datasets`),
`peer_rows/` (our packed rows, with `seq_lengths` as TRL calls it) and `recipe.json` (our training section, and counts). Three
samples of four are comments, and as many samples are drawn as fill the rows of all steps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.data.ours import ingest
from benchmarks.study.rows import VOC_SHARE
from benchmarks.train.side import PEER_ROWS, PEER_SAMPLES, SAMPLES, write_recipe
from corpus.ground.tasks import map_here
from corpus.mixing.arms import plan_arm, write_arm
from corpus.mixing.samples import Sample, SampleReader
from voc.config.arms import ArmConfig, SourceWeight
from voc.config.training import OptimizerConfig, TrainingConfig
from voc.store.local import LocalStore

_COLUMNS = ("input_ids", "labels", "seq_lengths")


def make_recipe(steps: int, rows_per_step: int, seq_len: int, dtype: str) -> TrainingConfig:
    """Return what is trained how: one constant rate and no weight decay, because the sides' schedules and groups differ."""
    return TrainingConfig(
        cpus_per_worker=2,
        max_steps=steps,
        batch_unit="rows",
        global_batch_size=rows_per_step,
        max_seq_len=seq_len,
        param_dtype=dtype,
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=5e-4, warmup_steps=0, final_learning_rate_ratio=1.0, weight_decay=0.0
        ),
    )


def write_training_rows(rows: Path, base: Path, output: Path, recipe: TrainingConfig) -> None:
    """Write the samples of all steps in every form that a side reads.

    Raises:
        ValueError: If the samples do not fill every step with equally many rows: the peers' steps could not be the same.
    """
    store = LocalStore(output)
    _, usable = ingest(rows, base, store, recipe.max_seq_len, map_here)
    weights = (SourceWeight(name="customer", weight=VOC_SHARE), SourceWeight(name="general", weight=1 - VOC_SHARE))
    arm = plan_arm(ArmConfig(name="mix", title="75/25", sources=weights), recipe, usable, 0)
    manifest = write_arm(arm, usable, store, SAMPLES, inputs={}, map_parts=map_here)
    reader = SampleReader(store, SAMPLES, manifest)
    steps = [reader.read_step(step) for step in range(recipe.max_steps)]
    packed = [row for samples in steps for row in _join_rows(samples)]
    wanted = recipe.max_steps * recipe.global_batch_size
    if len(packed) != wanted:
        raise ValueError(f"{len(packed)} packed rows. Expected: {wanted}. To do: take another --steps.")
    _save(output / PEER_SAMPLES, _COLUMNS[:2], ((s.input_ids, s.labels) for samples in steps for s in samples))
    _save(output / PEER_ROWS, _COLUMNS, packed)
    num_samples = sum(map(len, steps))
    counts = {"samples": num_samples, "samples_per_step": round(num_samples / recipe.max_steps)}
    write_recipe(output, {"training": recipe.model_dump(mode="json"), **counts})


def _join_rows(samples: list[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray, list[int]]]:
    """Yield the packed rows of a step: tokens, labels, and tokens of each document."""
    for number in range(1 + max(sample.row for sample in samples)):
        row = [sample for sample in samples if sample.row == number]
        ids, labels = (np.concatenate([getattr(s, name) for s in row]) for name in ("input_ids", "labels"))
        yield ids, labels, [len(sample.input_ids) for sample in row]


def _save(folder: Path, columns: Sequence[str], rows: Iterable[tuple[Sequence[int] | np.ndarray, ...]]) -> None:
    from datasets import Dataset, Features, List, Value

    lists = zip(*rows, strict=True)
    arrays = {
        name: [np.asarray(v, dtype=np.int32) for v in values] for name, values in zip(columns, lists, strict=True)
    }
    Dataset.from_dict(arrays, features=Features(dict.fromkeys(columns, List(Value("int32"))))).save_to_disk(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rows-per-step", type=int, default=2)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    recipe = make_recipe(arguments.steps, arguments.rows_per_step, arguments.seq_len, arguments.dtype)
    write_training_rows(arguments.rows, arguments.base, arguments.output, recipe)
    print(json.dumps({"rows": str(arguments.output)}))


if __name__ == "__main__":
    main()
