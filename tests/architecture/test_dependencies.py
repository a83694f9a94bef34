"""The direction of the dependencies is a fact: nothing heavy at module level, nothing of the project in the provider."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

HEAVY = ("torch", "ray", "vllm", "transformers", "lm_eval", "airflow", "datasets", "matplotlib")
MAX_FILE_LINES = 330

BLOCK = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy!r}:
            raise ImportError(f"blocked: {{name}}")

sys.meta_path.insert(0, Block())
import voc
for module in pkgutil.walk_packages(voc.__path__, "voc."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (REPOSITORY / folder).rglob("*.py"))


def module_level_imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_voc_loads_where_nothing_heavy_can_be_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(heavy=HEAVY)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", python_files("dags", "plugins"), ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_what_airflow_loads_imports_nothing_heavy(path: Path) -> None:
    assert not module_level_imports(path) & (set(HEAVY) - {"airflow"})


@pytest.mark.parametrize("path", python_files("plugins/rayjob_provider"), ids=lambda p: p.name)
def test_the_provider_imports_nothing_of_ours(path: Path) -> None:
    assert not module_level_imports(path) & {"voc", "corpus", "training", "evaluation", "demo", "voc_dags"}


def test_training_and_evaluation_do_not_import_each_other() -> None:
    for package, other in (("training", "evaluation"), ("evaluation", "training")):
        for path in python_files(package):
            names = {n.split(".")[0] for node in ast.walk(ast.parse(path.read_text())) for n in _names(node)}
            assert other not in names, path


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return []


def test_no_module_is_called_after_a_drawer() -> None:
    drawers = {"utils", "helpers", "common", "misc", "ray", "json", "types"}
    folders = ("voc", "corpus", "training", "evaluation", "demo", "dags", "plugins")
    assert [p for p in python_files(*folders) if p.stem in drawers] == []


def test_files_can_be_read_in_one_sitting() -> None:
    folders = ("voc", "corpus", "training", "evaluation", "demo", "dags", "plugins")
    long = {
        str(p.relative_to(REPOSITORY)): count
        for p in python_files(*folders)
        if (count := len(p.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert long == {}


def test_asserts_are_for_tests_only() -> None:
    folders = ("voc", "corpus", "training", "evaluation", "demo", "dags", "plugins")
    found = [
        f"{path}:{node.lineno}"
        for path in python_files(*folders)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_nothing_unpickles_or_trusts_remote_code() -> None:
    folders = ("voc", "corpus", "training", "evaluation", "demo", "dags", "plugins")
    for path in python_files(*folders):
        text = path.read_text()
        assert "trust_remote_code=True" not in text, path
        assert "pickle.load" not in text, path
        assert "shell=True" not in text, path
