from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from training.job import TrainingJob
from training.loop.train import train
from training.start.startup import ENTER_WORKER, StartupClock

MakeJob = Callable[..., TrainingJob]
PARTS = ["join_ranks", "load_model", "find_checkpoint", "first_step"]


def read_record(job: TrainingJob) -> dict[str, Any]:
    return json.loads(job.run.store.read_bytes(job.run.layout.startup("mixed")))


def test_the_first_mark_is_the_start_of_this_process() -> None:
    (started,) = StartupClock().marks.values()
    assert StartupClock().marks["process_start"] == pytest.approx(started, abs=0.1)
    assert started < time.time() - 0.5  # importing torch takes longer


def test_a_training_records_where_the_time_before_its_first_step_went(make_job: MakeJob) -> None:
    job = make_job()
    train(job)
    record = read_record(job)
    assert list(record["parts_s"]) == [*PARTS, "total"]
    assert record["parts_s"]["total"] == pytest.approx(sum(record["parts_s"][part] for part in PARTS), abs=0.01)
    assert min(record["parts_s"].values()) >= 0
    assert (record["first_step"], record["world_size"], record["restarted"]) == (1, 1, False)


def test_a_restarted_worker_group_does_not_count_what_the_driver_did_before(make_job: MakeJob) -> None:
    job = make_job()
    long_ago = {"process_start": time.time() - 3600, "start_ray": time.time() - 3000}

    def start_worker() -> None:
        clock = StartupClock(long_ago)
        clock.mark(ENTER_WORKER)
        train(job, clock=clock)

    start_worker()
    first = read_record(job)
    job.run.store.delete_prefix(job.run.layout.checkpoint("mixed", 4))
    start_worker()
    second = read_record(job)
    assert first["parts_s"]["start_ray"] == pytest.approx(600, abs=1)
    assert first["parts_s"]["total"] > 3600
    assert not first["restarted"]
    assert second["restarted"]
    assert list(second["parts_s"]) == [*PARTS, "total"]
    assert second["parts_s"]["total"] < 600
    assert second["first_step"] == 3
