"""Prepare on Ray Data: the same files as in one process, whichever worker made which part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from corpus.prepare import prepare
from corpus.ray_session import map_here
from tests.conftest import REPOSITORY
from voc.manifest import read_manifest, verify_directory

pytestmark = pytest.mark.integration


@pytest.mark.timeout(300)
def test_workers_write_what_one_process_writes(make_run: Callable[..., Any]) -> None:
    here, there = make_run("here"), make_run("there")
    prepare(here, map_here)
    command = ["prepare", "--store-uri", there.store.uri, "--run-id", there.layout.run_id]
    done = subprocess.run(
        [sys.executable, "-m", "training", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "data prepared" in done.stdout
    for prefix in (here.layout.samples("mixed"), here.layout.samples("customer")):
        assert verify_directory(there.store, prefix).digest == read_manifest(here.store, prefix).digest
    names = {entry.path: entry.sha256 for entry in read_manifest(here.store, here.layout.data).files}
    made = {entry.path: entry.sha256 for entry in verify_directory(there.store, there.layout.data).files}
    assert names.keys() == made.keys()
    same = [name for name in names if name.startswith(("rows/", "tokens/")) or name == "test.jsonl"]
    assert {name: made[name] for name in same} == {name: names[name] for name in same}


@pytest.mark.timeout(300)
def test_a_named_error_of_a_worker_reaches_the_user(make_run: Callable[..., Any], tmp_path: Any) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "general.jsonl").write_text("\n")
    run = make_run()
    command = ["prepare", "--store-uri", run.store.uri, "--run-id", run.layout.run_id]
    done = subprocess.run(
        [sys.executable, "-m", "training", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "general.jsonl is empty" in done.stderr
    assert "Traceback" not in done.stderr
