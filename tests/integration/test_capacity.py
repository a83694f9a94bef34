"""A training that a real Ray has no room for says so: at once where there never will be any, else when the time is up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from tests.conftest import REPOSITORY
from tests.tiny_model import make_tiny_model
from tests.tiny_run import RUN_ID, create_tiny_run
from voc.run import Run

START_TIMEOUT_S = 5
# A cluster that this process did not start as far as the driver can tell: it must ask Ray whether anything adds nodes.
CROWDED = """
import json, os, sys, time
import ray
from ray.util.placement_group import placement_group
from training.start.capacity import read_cluster
from training.start.driver import train_on_ray
from training.job import open_job
from training.start.startup import StartupClock
from voc.errors import TrainingError
from voc.run import open_run

ray.init(num_cpus=2, include_dashboard=False)
os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
deadline = time.monotonic() + 60  # Ray's monitor reports some seconds after the start
while read_cluster(started_here=False).can_grow and time.monotonic() < deadline:
    time.sleep(0.5)
ray.get(placement_group([{"CPU": 1}]).ready())  # somebody else's
for number, uri in enumerate(sys.argv[2:]):
    started = time.monotonic()
    try:
        train_on_ray(open_job(open_run(uri, sys.argv[1]), "mixed"), StartupClock())
    except TrainingError as error:
        print(json.dumps({"number": number, "wall_s": time.monotonic() - started, "error": str(error)}), flush=True)
"""

pytestmark = [pytest.mark.integration, pytest.mark.timeout(500)]


def make_run(root: Path, base: Path, **training: int) -> Run:
    run = create_tiny_run(root, base, training={"start_timeout_s": START_TIMEOUT_S, **training})
    prepare(run, map_here)
    return run


def start(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=400)


def test_a_stage_that_starts_its_own_cluster_knows_that_it_will_not_grow(tmp_path: Path) -> None:
    run = make_run(tmp_path, make_tiny_model(tmp_path / "base"), cpus_per_worker=4096)
    command = ["run", "--store-uri", run.store.uri, "--run-id", run.layout.run_id, "--arm", "mixed"]
    done = start("-m", "training", *command)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the training needs 1 x {CPU: 4096} at the same time" in done.stderr
    assert "no node has the {CPU: 4096} of one worker, and no autoscaler can add a node" in done.stderr


def test_a_cluster_without_autoscaler_is_recognised_and_a_crowded_one_is_waited_for(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    too_many = make_run(tmp_path / "too-many", base, num_workers=4)
    too_late = make_run(tmp_path / "too-late", base, num_workers=2)
    done = start("-c", CROWDED, RUN_ID, too_many.store.uri, too_late.store.uri)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))
    assert "needs 4 x {CPU: 1} at the same time, the cluster has 1 nodes ({CPU: 2}): only 2 of 4" in first["error"]
    assert "no autoscaler can add a node" in first["error"]
    assert first["wall_s"] < START_TIMEOUT_S
    assert "all workers fit, but others hold the resources" in second["error"]
    assert f"it was waited for {START_TIMEOUT_S} s" in second["error"]
    assert second["wall_s"] >= START_TIMEOUT_S
