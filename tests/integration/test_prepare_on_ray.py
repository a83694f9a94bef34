"""Prepare on Ray Data: the same files as in one process, whichever worker made which part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from tests.conftest import REPOSITORY
from tests.ray_head import RayHead
from voc.store.manifest import read_manifest, verify_directory

pytestmark = pytest.mark.integration


PREPARE = """
import sys
from corpus.prepare import prepare
from corpus.ground.tasks import TaskRunner
from voc.run import open_run

if __name__ == "__main__":
    with TaskRunner(on_ray=True) as runner:
        prepare(open_run(*sys.argv[1:]), runner)
"""


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)
def test_ray_writes_what_one_process_writes(make_run: Callable[..., Any], tmp_path: Path, ray_head: RayHead) -> None:
    here, there = make_run("here"), make_run("there")
    prepare(here, map_here)
    script = tmp_path / "prepare_there.py"
    script.write_text(PREPARE)
    done = run_python(str(script), there.store.uri, there.layout.run_id)
    assert done.returncode == 0, done.stderr
    assert "data prepared" in done.stdout
    for prefix in (here.layout.samples("mixed"), here.layout.samples("customer")):
        assert verify_directory(there.store, prefix).digest == read_manifest(here.store, prefix).digest
    names = {entry.path: entry.sha256 for entry in read_manifest(here.store, here.layout.data).files}
    made = {entry.path: entry.sha256 for entry in verify_directory(there.store, there.layout.data).files}
    assert names.keys() == made.keys()
    same = [name for name in names if name.startswith(("rows/", "tokens/")) or name == "test.jsonl"]
    assert {name: made[name] for name in same} == {name: names[name] for name in same}
