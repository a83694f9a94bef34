"""Worker processes of one machine: order, errors as they were raised, killed workers, and no worker without its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from corpus import worker_pool
from corpus.base_model import get_loaded_folder
from corpus.worker_pool import WorkerPool, count_cpus
from tests.conftest import REPOSITORY
from tests.tiny_model import make_tiny_model
from voc.errors import DataError, WorkerError

SHARES = """
import json
from pathlib import Path
from corpus.base_model import load_tokenizer
from corpus.worker_pool import WorkerPool
from tests.unit.corpus.test_worker_pool import read_loaded

if __name__ == "__main__":
    load_tokenizer(Path({base!r}))
    with WorkerPool(1) as pool:
        print(json.dumps(list(pool.map(read_loaded, [0]))[0]))
"""
SOON_S = 60  # a crowded machine takes its time to start a process
LOSES_ITS_PARENT = """
import time
from pathlib import Path
from corpus.worker_pool import WorkerPool
from tests.unit.corpus.test_worker_pool import note_pid_and_wait

if __name__ == "__main__":
    with WorkerPool(2) as pool:
        list(pool.map(note_pid_and_wait, [Path({folder!r}) / "a", Path({folder!r}) / "b"]))
"""


def sleep_and_return(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def refuse(number: int) -> int:
    if number == 3:
        raise DataError(f"seen {number}", expected="another", remedy="count again")
    return number


def fail_without_a_name(number: int) -> int:
    return 1 // number


def kill_itself(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def note_pid_and_wait(path: Path) -> None:
    path.write_text(str(os.getpid()))
    time.sleep(10 * SOON_S)


def read_threads(_: int) -> list[str | None]:
    return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")]


def read_loaded(_: int) -> tuple[str, list[str]]:
    return str(get_loaded_folder()), sorted(sys.modules)


def read_variable(name: str) -> str | None:
    return os.environ.get(name)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_results_come_in_order_and_a_named_error_as_it_was_raised() -> None:
    with WorkerPool(2) as pool:
        assert list(pool.map(sleep_and_return, [0.3, 0, 0.1, 0])) == [0.3, 0, 0.1, 0]
        results = pool.map(refuse, range(100))
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataError) as caught:
            next(results)
        assert (caught.value.problem, caught.value.remedy) == ("seen 3", "count again")
        with pytest.raises(ZeroDivisionError):
            list(pool.map(fail_without_a_name, [1, 0]))
        assert list(pool.map(refuse, [])) == []
        assert list(pool.map(refuse, [1, 2])) == [1, 2]  # the pool goes on


def test_tasks_are_handed_out_a_few_ahead_however_many_there_are() -> None:
    asked = []

    class Noted(list[int]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for number in super().__iter__():
                asked.append(number)
                yield number

    with WorkerPool(2) as pool:
        results = pool.map(abs, Noted(range(1000)))
        assert next(results) == 0
        assert len(asked) <= 2 * 4 + 1
        results.close()  # type: ignore[attr-defined]


def test_a_worker_that_is_killed_is_a_named_error_that_says_what_to_do() -> None:
    with WorkerPool(1) as pool, pytest.raises(WorkerError, match=r"ended from outside.*out of memory.*--without-ray"):
        list(pool.map(kill_itself, [1]))


def test_a_worker_has_one_thread_in_libraries_and_this_process_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    with WorkerPool(1) as pool:
        assert list(pool.map(read_threads, [1])) == [["3", "1"]]
    assert "RAYON_NUM_THREADS" not in os.environ


def test_workers_have_the_environment_that_this_process_has_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for value in ("one", "two"):  # of one fork server
        monkeypatch.setenv("NIGHTFORGE_TESTED", value)
        with WorkerPool(1) as pool:
            assert list(pool.map(read_variable, ["NIGHTFORGE_TESTED"])) == [value]


def test_workers_share_what_their_parent_has_loaded_and_import_nothing_that_they_do_not_need(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "base")
    script = tmp_path / "parent.py"
    script.write_text(SHARES.format(base=str(tmp_path / "base")))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded, imported = json.loads(done.stdout)
    assert loaded == str(tmp_path / "base")
    assert {"corpus.ingest", "corpus.samples", "transformers"} <= set(imported)
    assert not {"pandas", "requests", "chardet", "torch", "ray", "boto3"} & set(imported)


@pytest.mark.parametrize(
    ("how", "send"),
    [(signal.SIGKILL, os.kill), (signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)],
    ids=["killed", "terminated", "Ctrl-C"],
)
def test_workers_end_with_their_parent_however_it_ends(
    how: signal.Signals, send: Callable[[int, int], None], tmp_path: Path
) -> None:
    script = tmp_path / "parent.py"
    script.write_text(LOSES_ITS_PARENT.format(folder=str(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    parent = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    files = [tmp_path / "a", tmp_path / "b"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    send(parent.pid, how)
    parent.wait(SOON_S)
    wait_until(lambda: not any(map(is_running, workers)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("6400000 100000", 8), (None, 8)],
)
def test_usable_cpus_are_those_of_the_affinity_and_of_the_containers_quota(
    content: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    if content is not None:
        quota.write_text(f"{content}\n")
    monkeypatch.setattr(worker_pool, "_CPU_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert count_cpus() == expected
