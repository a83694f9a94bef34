"""A training whose processes are killed ends with the model of one that was left alone, bit for bit.

Every fault's record is written by the injector before the signal; what came of it is read from the steps that the ranks
began, from the exit codes, and from the files.
"""

from __future__ import annotations

import random
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from tests.fault_injection.launch import Fault, FaultyTraining, train_without_ray
from tests.tiny_model import make_tiny_model
from tests.tiny_run import create_tiny_run
from training.job import is_trained, open_job
from training.metrics import read_metrics
from voc.run import Run
from voc.store.manifest import verify_directory

SEED = 20261125
NUM_WORKERS = 2
MAX_STEPS = 20
EVERY_STEPS = 4
ARM = "mixed"
CHECKPOINT = r"/checkpoints/step-{step:08d}/__{rank}_0\.distcp$"
EXPORT = r"/export/model.*\.safetensors$"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def reference(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of as many ranks that nothing happens to."""
    run = make_run(tmp_path_factory.mktemp("reference"), base)
    train_without_ray(run, ARM, NUM_WORKERS)
    return run


def make_run(root: Path, base: Path, *, max_failures: int = 0, asynchronous: bool = True) -> Run:
    training = {
        "num_workers": NUM_WORKERS,
        "max_steps": MAX_STEPS,
        "checkpoint": {"every_steps": EVERY_STEPS, "keep": 2, "asynchronous": asynchronous},
        "max_failures": max_failures,
        "log_every_steps": 1,
    }
    run = create_tiny_run(root, base, training=training)
    prepare(run, map_here)
    return run


def plan_faults(target: str, sent: int, interval: int, chance: random.Random) -> list[Fault]:
    """Plan a kill in the middle of a step of the interval between two checkpoints, of a checkpoint, and of the export."""
    name = f"{signal.Signals(sent).name} of {target}"
    any_rank = chance.randrange(NUM_WORKERS)
    step = interval * EVERY_STEPS + chance.randrange(1, EVERY_STEPS)
    path = CHECKPOINT.format(step=4 * EVERY_STEPS, rank=any_rank)
    common: dict[str, Any] = {"target": target, "signal": sent}
    return [
        Fault(f"{name} in a step", any_rank, step=step, delay_s=chance.uniform(0.001, 0.02), **common),
        Fault(f"{name} in a checkpoint", any_rank, path=path, **common),
        Fault(f"{name} in the export", 0, path=EXPORT, **common),
    ]


def interleave(*plans: list[Fault]) -> list[Fault]:
    """Order the faults of several targets by the moment, so that one training meets them all."""
    return [fault for moment in zip(*plans, strict=True) for fault in moment]


def check_outcome(training: FaultyTraining, reference: Run, *, most_lost: int) -> None:
    """Compare a finished training with the reference, and its steps with the faults that fired.

    Args:
        training: The training.
        reference: The run that was left alone.
        most_lost: Steps that one fault may cost.
    """
    run, layout = training.run, training.run.layout
    assert is_trained(open_job(run, ARM))
    verify_directory(run.store, layout.training(ARM))
    verify_directory(run.store, layout.export(ARM))
    assert read_weights(run) == read_weights(reference)
    mine, theirs = (read_metrics(r.store.local_path(f"{layout.training(ARM)}/metrics.jsonl")) for r in (run, reference))
    assert [(line["step"], line["loss"]) for line in mine] == [(line["step"], line["loss"]) for line in theirs]

    fired = training.read_fired()
    assert [record["name"] for record in fired] == [fault.name for fault in training.faults]
    assert all(record["moment"].startswith("step ") for record in fired[:2])
    assert all(re.search(r"/checkpoints/step-00000016/", record["moment"]) for record in fired[2:4])
    assert all(re.search(EXPORT, record["moment"]) for record in fired[4:])
    lost = [count_lost_steps(training, record) for record in fired]
    print({record["name"]: steps for record, steps in zip(fired, lost, strict=True)})
    assert all(0 <= steps <= most_lost for steps in lost[:4]), lost
    assert lost[4:] == [0, 0]


def read_weights(run: Run) -> dict[str, bytes]:
    """Return the exported weights, file by file."""
    keys = [key for key in run.store.list_keys(run.layout.export(ARM)) if key.endswith(".safetensors")]
    assert keys
    return {key: run.store.read_bytes(key) for key in keys}


def count_lost_steps(training: FaultyTraining, record: dict[str, Any]) -> int:
    """Return how many steps that were begun before a fault were run again after it."""
    steps = training.read_steps()
    before = {pid for _, pid, at in steps if at <= record["at"]}
    begun = [step for step, pid, _ in steps if pid in before][-1] + 1
    return begun - next((step for step, pid, _ in steps if pid not in before), MAX_STEPS)


def test_workers_that_die_are_restarted_by_the_same_driver_and_nothing_is_lost(
    tmp_path: Path, base: Path, reference: Run
) -> None:
    chance = random.Random(SEED)
    faults = interleave(plan_faults("self", signal.SIGKILL, 1, chance), plan_faults("self", signal.SIGTERM, 2, chance))
    run = make_run(tmp_path / "run", base, max_failures=len(faults), asynchronous=False)
    training = FaultyTraining(tmp_path / "faults", run, ARM, faults)
    finished = training.launch()
    assert finished.returncode == 0, finished.log
    check_outcome(training, reference, most_lost=EVERY_STEPS)
    # Preempted in a step, the ranks saved that step: nothing had to be run again.
    assert count_lost_steps(training, training.read_fired()[1]) == 0


def test_a_stage_whose_driver_or_node_dies_goes_on_when_it_is_run_again(
    tmp_path: Path, base: Path, reference: Run
) -> None:
    chance = random.Random(SEED + 1)
    faults = interleave(
        plan_faults("driver", signal.SIGKILL, 1, chance), plan_faults("raylet", signal.SIGKILL, 2, chance)
    )
    training = FaultyTraining(tmp_path / "faults", make_run(tmp_path / "run", base), ARM, faults)
    for number, fault in enumerate(faults):
        killed = training.launch()
        assert len(training.read_fired()) == number + 1, killed.log
        assert (killed.returncode == -signal.SIGKILL) == (fault.target == "driver"), killed.log
        assert killed.returncode != 0
    finished = training.launch()
    assert finished.returncode == 0, finished.log
    # The checkpoint before may still have been in writing when the fault came: then the one before that is continued.
    check_outcome(training, reference, most_lost=2 * EVERY_STEPS)
