"""The direction of the dependencies is a fact: nothing heavy at module level, nothing of the project in the provider."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

HEAVY = ("torch", "ray", "vllm", "transformers", "lm_eval", "airflow", "datasets", "matplotlib")
PRODUCT = ("voc", "corpus", "training", "evaluation", "demo", "dags", "plugins")
MAX_FOLDER_FILES = 12  # Python files with __init__.py: a folder is read at one go
MAX_FUNCTION_LINES = 60

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
    assert [p for p in python_files(*PRODUCT) if p.stem in drawers] == []


def test_a_folder_can_be_surveyed_at_once() -> None:
    counts = Counter(path.parent for path in python_files(*PRODUCT))
    full = {str(p.relative_to(REPOSITORY)): count for p, count in counts.items() if count > MAX_FOLDER_FILES}
    assert full == {}


def test_a_function_can_be_read_at_once() -> None:
    lengths = {
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in python_files(*PRODUCT)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    print(f"{len(lengths)} functions, median {statistics.median(lengths.values())} lines, max {max(lengths.values())}")
    assert {name: count for name, count in lengths.items() if count > MAX_FUNCTION_LINES} == {}


def test_asserts_are_for_tests_only() -> None:
    found = [
        f"{path}:{node.lineno}"
        for path in python_files(*PRODUCT)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_nothing_unpickles_or_trusts_remote_code() -> None:
    for path in python_files(*PRODUCT):
        text = path.read_text()
        assert "trust_remote_code=True" not in text, path
        assert "pickle.load" not in text, path
        assert "shell=True" not in text, path
