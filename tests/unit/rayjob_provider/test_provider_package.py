"""The package as Airflow sees it: provider info, imports, the folder loader."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import airflow
import jsonschema
from airflow._shared.module_loading.file_discovery import find_path_from_directory

import rayjob_provider

PACKAGE = Path(rayjob_provider.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)


def test_the_provider_info_is_what_airflow_expects() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(rayjob_provider.get_provider_info(), schema)


def test_everything_the_provider_info_names_can_be_imported() -> None:
    info = rayjob_provider.get_provider_info()
    names = [*info["extra-links"], *(entry["hook-class-name"] for entry in info["connection-types"])]
    for module, _, name in (full.rpartition(".") for full in names):
        assert hasattr(import_module(module), name)


def test_the_distribution_holds_every_package_and_the_entry_point() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())
    packages = {
        ".".join(path.parent.relative_to(PACKAGE.parent).parts)
        for path in PACKAGE.rglob("__init__.py")
        if "build" not in path.parts
    }
    assert set(project["tool"]["setuptools"]["packages"]) == packages
    assert project["project"]["version"] == rayjob_provider.__version__
    assert (
        project["project"]["entry-points"]["apache_airflow_provider"]["provider_info"]
        == "rayjob_provider:get_provider_info"
    )


def test_the_plugins_folder_loader_keeps_out() -> None:
    found = [str(path) for path in find_path_from_directory(str(PACKAGE.parent), ".airflowignore", "glob")]
    assert not [path for path in found if "rayjob_provider" in path]


def test_no_module_brings_a_heavy_import() -> None:
    """Airflow's environment has no ray, and the provider knows nothing of the domain."""
    heavy = {"ray", "torch", "voc", "training", "evaluation", "aiohttp", "pandas"}
    code = f"import sys, {', '.join(MODULES)}; bad = {heavy!r} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
