"""The walks of CONTRIBUTING.md: how many files a change usually passes, and that the lists are not wishes."""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
_, RECORD, MODEL, KEY = re.split(r"^1\. ", TEXT.partition("## Three walks")[2].partition("## Style")[0], flags=re.M)
WALKS = {"record": RECORD, "model": MODEL, "key": KEY}
LIMITS = {"record": 25, "model": 15, "key": 10}
PATH = re.compile(r"`([\w/]+\.py)`")


def list_files(walk: str) -> list[str]:
    """Return the files of a walk in order; the first line lost its number when the text was split."""
    lines = [line for line in WALKS[walk].splitlines() if line.startswith("`") or re.match(r"\d+\. ", line)]
    return [PATH.search(line).group(1) for line in lines]  # type: ignore[union-attr]


def list_imports(path: str) -> set[str]:
    """Return the project's files that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((REPOSITORY / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value.partition(":")[0]]  # commands and suites are named by address
        else:
            continue
        found |= {f"{folder}{name.replace('.', '/')}.py" for name in names for folder in ("", "dags/", "plugins/")}
    return found


@pytest.mark.parametrize("walk", WALKS)
def test_a_walk_is_short_enough(walk: str) -> None:
    files = list_files(walk)
    assert 0 < len(files) == len(set(files)) <= LIMITS[walk]
    assert [path for path in files if not (REPOSITORY / path).is_file()] == []


@pytest.mark.parametrize("walk", ["record", "key"])
def test_every_file_of_a_walk_hangs_together_with_another(walk: str) -> None:
    files = list_files(walk)
    imports = {path: list_imports(path) for path in files}
    alone = [
        path
        for path in files
        if not any(path in imports[other] or other in imports[path] for other in files if other != path)
    ]
    assert alone == []


def test_a_record_passes_no_file_that_is_not_on_its_walk(make_run: Callable[..., Any]) -> None:
    """Everything of ours that is called while a run is prepared is on the list or on that of what is left out."""
    from corpus.ground.tasks import map_here
    from corpus.prepare import prepare

    run, called = make_run(), set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        prepare(run, map_here)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    seen = {
        str(Path(name).relative_to(REPOSITORY))
        for name in called
        if name.startswith(f"{REPOSITORY}/") and name.endswith(".py")
    }
    left_out = re.findall(r"`([\w/.]+)`", TEXT.partition("Left out:")[2].partition("\n\n")[0])
    named = (*left_out, "corpus/comparison/", "corpus/report/", "tests/")
    listed = set(list_files("record"))
    assert listed & seen, "nothing was traced"
    assert sorted(path for path in seen - listed if not path.startswith(named)) == []
