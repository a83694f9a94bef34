"""Shared by all tests: the repository, the two environments' interpreters, what is costly to start, and who runs what.

With `pytest -n 2` (pytest-xdist; `make test` does so) a file's tests stay in one process, and so do files that share
something started: see `TOGETHER`. docs/tests.md tells what is shared and why.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
# Files whose tests use the same started thing, which is started once per process, and the name of that thing.
TOGETHER = {
    r"tests/integration/test_(comparisons_on_ray|prepare_on_ray|training|vllm_smoke|readme)\.py": "the shared Ray",
    r"tests/unit/voc/(store/|test_(champion|run|mmlu)\.py)": "Ceph's S3 gateway",
}

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many processes as cores: more threads would only take turns

for folder in (REPOSITORY / "dags", REPOSITORY / "plugins", REPOSITORY):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

settings.register_profile("any machine", deadline=None)  # how long an example took says how busy the machine is
settings.load_profile("any machine")

if importlib.util.find_spec("ray"):
    from corpus.ground.tasks import set_ray_variables

    set_ray_variables()  # Ray reads its authentication mode once per process, and a test file may import it at its top


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def airflow_python() -> Path:
    """The Airflow environment's interpreter; `make test` sets it."""
    value = os.environ.get("AIRFLOW_PYTHON")
    if not value:
        pytest.skip("AIRFLOW_PYTHON is not set: run through make, or take it from `make env`")
    return Path(value)


@pytest.fixture(scope="session")
def ray_python() -> Path:
    """The Ray environment's interpreter; `make test` sets it."""
    value = os.environ.get("RAY_PYTHON")
    if not value:
        pytest.skip("RAY_PYTHON is not set: run through make, or take it from `make env`")
    return Path(value)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of a few thousand parameters."""
    from tests.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def make_run(tmp_path: Path, tiny_base: Path) -> Callable[..., Any]:
    """Make a run of the smallest size (`tests.tiny_run`) below the test's folder."""
    from tests.tiny_run import create_tiny_run

    def make(name: str = "run", base: Path = tiny_base, **sections: Any) -> Any:
        return create_tiny_run(tmp_path / name, base, **sections)

    return make


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Moto's S3 server with the bucket `nightforge`; a test takes a prefix of its own, or makes a bucket."""
    from tests.s3_servers import moto_server

    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests in one process, and files of `TOGETHER` too."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return next((name for pattern, name in TOGETHER.items() if re.match(pattern, path)), path)

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
