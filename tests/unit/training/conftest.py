from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_run import create_tiny_run
from training.job import TrainingJob, open_job
from training.prepare import prepare
from voc.run import Run


@pytest.fixture
def make_run(tmp_path: Path, tiny_base: Path) -> Callable[..., Run]:
    def make(name: str = "run", base: Path = tiny_base, **sections: Any) -> Run:
        return create_tiny_run(tmp_path / name, base, **sections)

    return make


@pytest.fixture
def make_job(make_run: Callable[..., Run]) -> Callable[..., TrainingJob]:
    def make(name: str = "run", arm: str = "mixed", **sections: Any) -> TrainingJob:
        run = make_run(name, **sections)
        prepare(run)
        return open_job(run, arm)

    return make
