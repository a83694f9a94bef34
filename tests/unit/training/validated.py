"""Jobs with held-out rows, for tests of what happens around a step: 60 comments, 60 general rows of two categories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import training.loop.train
from tests.tiny_run import make_general_rows, make_voc_row, write_lines
from training.engine.step import StepTotals, reduce_figures
from training.job import TrainingJob
from training.metrics import StepFigures, read_metrics

MakeJob = Callable[..., TrainingJob]


def make_validated(
    make_job: MakeJob, root: Path, name: str = "run", arm: str = "mixed", **training: Any
) -> TrainingJob:
    """Make a job that evaluates before the first step and after every second; 4 rows of each stratum are held out."""
    (root / name).mkdir()
    write_lines(root / name / "train.jsonl", [make_voc_row(n, n % 7) for n in range(60)])
    write_lines(root / name / "general.jsonl", make_general_rows(60))
    validation = {"every_steps": 2, "rows_per_stratum": 4, **training.pop("validation", {})}
    return make_job(name, arm, training={"validation": validation, **training})


def read_training(job: TrainingJob) -> list[StepFigures]:
    """Return the metrics of a finished training."""
    return read_metrics(Path(job.run.store.local_path(f"{job.run.layout.training(job.arm)}/metrics.jsonl")))


def drop_times(figures: StepFigures) -> StepFigures:
    """Return what does not depend on the machine's speed."""
    times = {"wall_s", "tokens_per_s", "validation_s", "checkpoint_blocked_s"}
    return {key: value for key, value in figures.items() if key not in times}


def spike_at(patch: pytest.MonkeyPatch, *steps: int, done: int = 0) -> None:
    """Let the loss of some steps be fifty times what it is, in a training that has `done` so many."""
    numbers = count(done + 1)

    def reduce(*arguments: Any) -> StepTotals:
        totals = reduce_figures(*arguments)
        return replace(totals, loss=50 * totals.loss) if next(numbers) in steps else totals

    patch.setattr(training.loop.train, "reduce_figures", reduce)
