"""The README's commands exist, and the shipped configurations are complete."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from voc.config.file import load_config

BLOCKS = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.S)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.split("#")[0].strip()]
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.M))


def words_of(line: str) -> list[str]:
    return [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*", word)]


@pytest.mark.parametrize("line", [line for line in LINES if words_of(line)[:1] == ["make"]])
def test_every_make_target_of_the_readme_exists(line: str) -> None:
    words = words_of(line)
    assert set(words[1:]) <= MAKE_TARGETS


@pytest.mark.parametrize("line", [line for line in LINES if words_of(line)[:1] == ["python"]])
def test_every_stage_of_the_readme_takes_its_options(line: str) -> None:
    words = words_of(line)
    module, rest = words[2], words[3:]
    options = [word for word in rest if word.startswith("--")]
    command = list(rest[: rest.index(options[0])])
    done = subprocess.run(
        [sys.executable, "-m", module, *command, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in options), (options, done.stdout)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_complete(path: Path) -> None:
    names = re.findall(r"\$\{([A-Z_]+)\}", path.read_text())
    assert load_config(path, environ=dict.fromkeys(names, "/somewhere")).arms


def test_the_readme_shows_the_table_of_a_real_run() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert "<!-- table -->" not in text
    for row in ("base", "customer only", "75 % customer + 25 % general"):
        assert row in text
