"""What each arm draws: its exact mixture, how its samples fall into steps, and the shards they are written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from corpus.ground.results import ArmDocument, SampleFacts, ShardFacts
from corpus.ground.tasks import MapParts
from corpus.mixing.draw import plan_draw
from corpus.mixing.order import TrainingOrder
from corpus.mixing.packing import PackingPlan, plan_packing
from corpus.mixing.samples import ShardTask, cut_into_shards, write_shard
from corpus.parts.source_rows import UsableRows, list_token_files
from voc.config.arms import ArmConfig
from voc.config.training import TrainingConfig
from voc.errors import MixtureError
from voc.mixture import MixturePlan, describe_odd_sums
from voc.store.base import Store
from voc.store.manifest import Manifest, write_manifest

SAMPLES_VERSION = 1
_MAX_ATTEMPTS = 12
_SLICE_ROWS = 1 << 17


@dataclass(frozen=True)
class ArmPlan:
    """One arm.

    Attributes:
        name: The arm.
        plan: Its mixture.
        step_sizes: [steps] samples of each step.
        positions: [samples] position in the training order, step after step.
        packed_rows: [samples] packed row in the step, or -1 where the ranks lay rows out.
        packing: The packing of the whole order, where rows are the unit.
        notes: What its writer may not have meant.
    """

    name: str
    plan: MixturePlan
    step_sizes: np.ndarray
    positions: np.ndarray
    packed_rows: np.ndarray
    packing: PackingPlan | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> ArmDocument:
        """Return what `mixture.json` holds: the mixture, and how it falls into steps."""
        document: ArmDocument = {**self.plan.to_json(), "arm": self.name, "num_steps": len(self.step_sizes)}
        if self.packing is not None:
            document["packing"] = self.packing.to_json()
        if self.notes:
            document["notes"] = list(self.notes)
        return document


def plan_arm(arm: ArmConfig, training: TrainingConfig, usable: Mapping[str, UsableRows], seed: int) -> ArmPlan:
    """Plan what an arm draws; every arm takes the same number of steps.

    Raises:
        MixtureError: If the mixture cannot be drawn.
    """
    figures = {name: rows.figures for name, rows in usable.items()}
    notes = tuple(describe_odd_sums(arm.sources))

    def draw(num_samples: int) -> MixturePlan:
        return plan_draw(figures, arm.sources, unit=arm.unit, num_samples=num_samples, seed=seed)

    if training.batch_unit == "samples":
        num_samples = training.max_steps * training.global_batch_size
        sizes = np.full(training.max_steps, training.global_batch_size, dtype=np.int64)
        places, no_rows = np.arange(num_samples, dtype=np.int32), np.full(num_samples, -1, np.int32)
        return ArmPlan(arm.name, draw(num_samples), sizes, places, no_rows, notes=notes)
    plan, packing = _fill_rows(arm, training, usable, draw)
    return replace(lay_out_rows(arm.name, plan, packing, training.max_steps), notes=notes)


def lay_out_rows(name: str, plan: MixturePlan, packing: PackingPlan, num_steps: int) -> ArmPlan:
    """Deal packed rows to steps, in order and evenly: no step has more than one row more than another.

    Raises:
        MixtureError: If there are fewer rows than steps.
    """
    if packing.num_rows < num_steps:
        raise MixtureError(
            f"arm {name!r}: the samples fill {packing.num_rows} rows of {packing.row_len} tokens",
            expected=f"at least one row for each of {num_steps} steps",
            remedy="lower training.max_seq_len or training.max_steps, or raise training.global_batch_size",
        )
    step_of_row = (np.arange(packing.num_rows) * num_steps // packing.num_rows).astype(np.int32)
    first_rows = np.searchsorted(step_of_row, np.arange(num_steps))
    steps = step_of_row[packing.row_of]
    # Rows go up with their steps, so this is the order of steps and, inside, of rows.
    positions = np.argsort(packing.row_of, kind="stable").astype(np.int32)
    packed_rows = (packing.row_of - first_rows.astype(np.int32)[steps])[positions]
    return ArmPlan(name, plan, np.bincount(steps, minlength=num_steps), positions, packed_rows, packing)


def _fill_rows(
    arm: ArmConfig, training: TrainingConfig, usable: Mapping[str, UsableRows], draw: Any
) -> tuple[MixturePlan, PackingPlan]:
    """Find the largest mixture (of those tried) that packs into the rows of all steps."""
    num_rows = training.max_steps * training.global_batch_size
    places = num_rows * training.max_seq_len
    weights = {source.name: source.weight for source in arm.sources}
    mean = sum(w * float(usable[n].figures.tokens.mean()) for n, w in weights.items()) / sum(weights.values())
    fits, too_many = 0, 0
    best: tuple[MixturePlan, PackingPlan] | None = None
    attempt = max(1, int(0.98 * places / mean))
    for _ in range(_MAX_ATTEMPTS):
        plan = draw(attempt)
        packing = plan_packing(read_lengths(plan, usable), training.max_seq_len, seed=plan.seed)
        if packing.num_rows <= num_rows:
            fits, best = attempt, (plan, packing)
        else:
            too_many = attempt
        # Rows grow with samples at the rate just seen; a bracket that is closed within a thousandth is good enough.
        guess = int(attempt * num_rows / max(1, packing.num_rows))
        if too_many and too_many - fits <= max(1, fits // 1000):
            break
        low, high = fits + 1, (too_many or max(fits + 2, 2 * guess)) - 1
        attempt = min(max(guess, low), max(low, high)) if low <= high else low
        if attempt in (fits, too_many):
            break
    if best is None:
        raise MixtureError(
            f"arm {arm.name!r}: not even {attempt} samples fit into {num_rows} rows of {training.max_seq_len} tokens",
            expected="room for at least one sample of each source",
            remedy="raise training.max_steps or training.global_batch_size",
        )
    return best


def iterate_rows(
    plan: MixturePlan, usable: Mapping[str, UsableRows], positions: np.ndarray | range
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield, slice by slice of the positions, the slice, the index of each share and the row number in its source.

    What a position costs in memory is needed for one slice at a time only.
    """
    order = TrainingOrder(plan)
    selected = [usable[share.name].select(share.category) for share in plan.shares]
    for start in range(0, len(positions), _SLICE_ROWS):
        part = slice(start, min(start + _SLICE_ROWS, len(positions)))
        strata, rows = order.locate_at(positions[part])
        for index, numbers in enumerate(selected):
            chosen = strata == index
            rows[chosen] = numbers[rows[chosen]]
        yield part, strata, rows


def locate_rows(
    plan: MixturePlan, usable: Mapping[str, UsableRows], positions: np.ndarray | range
) -> tuple[np.ndarray, np.ndarray]:
    """Return for positions of the order the index of the share and the row number in its source."""
    strata = np.zeros(len(positions), dtype=np.int32)
    numbers = np.zeros(len(positions), dtype=np.int64)
    for part, *found in iterate_rows(plan, usable, positions):
        strata[part], numbers[part] = found
    return strata, numbers


def read_lengths(plan: MixturePlan, usable: Mapping[str, UsableRows]) -> np.ndarray:
    """Return [samples] the tokens of every sample, in training order."""
    lengths = np.zeros(plan.num_samples, dtype=np.int32)
    for part, strata, numbers in iterate_rows(plan, usable, range(plan.num_samples)):
        for index, share in enumerate(plan.shares):
            chosen = strata == index
            lengths[part][chosen] = usable[share.name].source.lengths[numbers[chosen]]
    return lengths


def write_arm(
    plan: ArmPlan,
    usable: Mapping[str, UsableRows],
    store: Store,
    prefix: str,
    *,
    inputs: Mapping[str, Any],
    map_parts: MapParts,
) -> Manifest:
    """Write an arm's samples in training order, shard by shard, and the manifest last."""
    tasks, shards = plan_shards(plan, usable, store.uri, prefix)
    store.delete_prefix(prefix)
    written = [file.entry for file in map_parts(write_shard, tasks)]
    facts: SampleFacts = {"shards": shards}
    manifest = Manifest(tuple(sorted(written, key=lambda entry: entry.path)), dict(inputs), dict(facts))
    write_manifest(store, prefix, manifest)
    return manifest


def plan_shards(
    plan: ArmPlan, usable: Mapping[str, UsableRows], store_uri: str, prefix: str
) -> tuple[list[ShardTask], list[ShardFacts]]:
    """Return the shards to write, and which steps and samples each will hold."""
    token_files, first_files, first_rows = list_token_files(usable, [share.name for share in plan.plan.shares])
    num_samples = len(plan.positions)
    files, rows = (np.zeros(num_samples, dtype=np.int32) for _ in range(2))
    shares = np.zeros(num_samples, dtype=np.int16)
    ends = np.cumsum(plan.step_sizes)
    step_tokens = np.zeros(len(ends), dtype=np.int64)
    for part, strata, numbers in iterate_rows(plan.plan, usable, plan.positions):
        lengths = np.zeros(len(strata), dtype=np.int64)
        for index, share in enumerate(plan.plan.shares):
            chosen, source = strata == index, usable[share.name]
            of_part, rows[part][chosen] = source.locate(numbers[chosen])
            files[part][chosen] = first_files[share.name] + of_part
            lengths[chosen] = source.source.lengths[numbers[chosen]]
        shares[part] = strata
        steps = np.searchsorted(ends, np.arange(part.start, part.stop), side="right")
        np.add.at(step_tokens, steps, lengths)
    tasks: list[ShardTask] = []
    described: list[ShardFacts] = []
    for number, (first, end) in enumerate(cut_into_shards(step_tokens)):
        start, stop = (int(ends[first - 1]) if first else 0), int(ends[end - 1])
        name = f"part-{number:05d}.arrow"
        described.append(
            {"path": name, "first_step": first, "end_step": end, "first_sample": start, "end_sample": stop}
        )
        tasks.append(
            ShardTask(
                store_uri, prefix, name, token_files, first_rows, files[start:stop], rows[start:stop],
                shares[start:stop], plan.packed_rows[start:stop], plan.step_sizes[first:end],
            )
        )  # fmt: skip
    return tasks, described
