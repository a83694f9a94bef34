"""One night for real at the smallest size: Airflow, Ray Train on two workers, vLLM, lm-eval, the decision, the report."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from voc.store.layout import RunLayout
from voc.store.uri import open_store

pytestmark = pytest.mark.integration
CONFIG = REPOSITORY / "tests" / "integration" / "smallest.yaml"
WORLD_SIZE = {
    "--pretrain-steps": 3,
    "--pretrain-batch-size": 4,
    "--train-comments": 40,
    "--test-comments": 7,
    "--general-rows": 20,
    "--questions": 12,
}
ARMS = ["base", "mix"]


@pytest.fixture(scope="module")
def world(ray_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    options = [text for flag, value in WORLD_SIZE.items() for text in (flag, str(value))]
    subprocess.run(
        [ray_python, "-m", "demo", "make", "--output", folder, *options], cwd=REPOSITORY, check=True, timeout=300
    )
    return folder


@pytest.fixture(scope="module")
def night(
    world: Path, ray_python: Path, airflow_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """What the demo's command printed, and the folder it worked in."""
    home = tmp_path_factory.mktemp("home")
    environ = {**os.environ, "NIGHTFORGE_WORLD": str(world), "NIGHTFORGE_AIRFLOW_PYTHON": str(airflow_python)}
    command = [ray_python, "-m", "demo.twin", "run", "--config", CONFIG, "--home", home]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=1500, check=False
    )
    print(done.stdout[-6000:])
    print(done.stderr[-6000:])
    assert done.returncode == 0
    return done.stdout, home


@pytest.fixture(scope="module")
def run_root(night: tuple[str, Path]) -> Path:
    runs = list((night[1] / "store" / "runs").iterdir())
    assert len(runs) == 1
    return runs[0]


@pytest.mark.timeout(2000)
def test_the_night_ends_with_a_table_and_a_decision(night: tuple[str, Path]) -> None:
    text = night[0]
    assert "base" in text
    assert "75 % customer + 25 % general" in text
    assert "peak memory" in text


def test_every_item_was_measured_exactly_once_on_every_model(run_root: Path, world: Path) -> None:
    comments = [json.loads(line)["id"] for line in (world / "data" / "test.jsonl").read_text().splitlines()]
    for model in ARMS:
        lines = [
            json.loads(line)
            for path in sorted((run_root / "evaluation" / model / "voc").rglob("predictions.jsonl"))
            for line in path.read_text().splitlines()
        ]
        assert sorted(line["custom_id"] for line in lines) == sorted(comments)
        for protocol in ("mmlu_log_likelihood", "mmlu_generative", "mmlu_letter"):
            samples = [
                json.loads(line)
                for path in sorted((run_root / "evaluation" / model / protocol).rglob("samples.jsonl"))
                for line in path.read_text().splitlines()
            ]
            assert len({sample["custom_id"] for sample in samples}) == len(samples) == WORLD_SIZE["--questions"]


def test_the_candidate_was_trained_on_exact_shares(run_root: Path) -> None:
    mixture = json.loads((run_root / "arms" / "mix" / "mixture.json").read_text())
    assert {source["name"]: source["num_samples"] for source in mixture["sources"]} == {"customer": 36, "general": 12}


def test_the_decision_and_the_report_are_there(run_root: Path) -> None:
    layout = RunLayout(run_root.name)
    store = open_store(str(run_root.parents[1]))
    decision = json.loads(store.read_bytes(layout.decision))
    assert decision["verdict"] in {"GO", "NO-GO", "INCONCLUSIVE"}
    for name in ("index.html", "report.json", "report.parquet", "report.txt", "manifest.json"):
        assert store.exists(f"{layout.report}/{name}"), name


def test_no_endpoint_is_left_behind(run_root: Path) -> None:
    assert list(run_root.rglob("endpoint.json")) == []


def test_no_secret_is_in_what_the_run_wrote(night: tuple[str, Path], run_root: Path) -> None:
    values = json.loads((night[1] / "secrets.json").read_text()).values()
    logs = [*run_root.rglob("*"), *(night[1] / "logs").rglob("*"), *(night[1] / "airflow" / "logs").rglob("*")]
    for path in logs:
        if path.is_file():
            data = path.read_bytes()
            assert not any(value.encode() in data for value in values), path


def test_no_process_survives_the_night(night: tuple[str, Path]) -> None:
    assert not (night[1] / "twin.json").exists()
    assert find_marked_by_home(night[1]) == []


def find_marked_by_home(home: Path) -> list[int]:
    """Processes of any twin that lived in this folder: their environment names it."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and str(home).encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]
