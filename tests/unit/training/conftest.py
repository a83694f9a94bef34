from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from training.job import TrainingJob, open_job
from voc.run import Run


@pytest.fixture
def make_job(make_run: Callable[..., Run]) -> Callable[..., TrainingJob]:
    def make(name: str = "run", arm: str = "mixed", **sections: Any) -> TrainingJob:
        run = make_run(name, **sections)
        prepare(run, map_here)
        return open_job(run, arm)

    return make
