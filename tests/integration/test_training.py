"""Ray Train for real: two workers of a cluster train the arm that one process trains, and end with the same losses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from tests.ray_head import RayHead
from tests.tiny_model import make_tiny_model
from tests.tiny_run import create_tiny_run
from training.job import is_trained, open_job
from training.loop.train import train
from training.metrics import StepFigures, read_metrics
from voc.run import Run
from voc.store.manifest import verify_directory

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 600  # a crowded machine needs minutes to start Ray

pytestmark = [pytest.mark.integration, pytest.mark.timeout(TIMEOUT_S + 60)]


def run_stage(run: Run, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", *words]
    command += ["--store-uri", run.store.uri, "--run-id", run.layout.run_id]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=run.store.root, timeout=TIMEOUT_S
    )


def read_figures(run: Run) -> list[StepFigures]:
    return read_metrics(run.store.local_path(f"{run.layout.training('mixed')}/metrics.jsonl"))


def test_two_ray_workers_train_what_one_process_trains(tmp_path: Path, ray_head: RayHead) -> None:
    base = make_tiny_model(tmp_path / "base")
    optimizer = {"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 1}
    alone, on_ray = (
        create_tiny_run(tmp_path / str(n), base, training={"num_workers": n, "optimizer": optimizer}) for n in (1, 2)
    )
    prepare(alone, map_here)
    prepare(on_ray, map_here)
    train(open_job(alone, "mixed"))
    finished = run_stage(on_ray, "run", "--arm", "mixed")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "on 2 ranks" in finished.stdout
    said = finished.stdout + finished.stderr
    assert said.count("mixed: step 4/4") == 1, said

    assert is_trained(open_job(on_ray, "mixed"))
    verify_directory(on_ray.store, on_ray.layout.export("mixed"))
    for one, two in zip(read_figures(alone), read_figures(on_ray), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
        assert two["labelled_tokens"] == one["labelled_tokens"]

    again = run_stage(on_ray, "run", "--arm", "mixed")
    assert again.returncode == 0
    assert "trained already" in again.stdout
