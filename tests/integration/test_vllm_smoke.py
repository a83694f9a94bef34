"""vLLM for real: it loads what training exported, dense and with experts, and answers as the trained model does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from tests.conftest import REPOSITORY
from tests.ray_head import RayHead
from tests.tiny_model import make_tiny_model
from tests.tiny_run import create_tiny_run
from training.export.vllm_smoke import QUESTIONS_NAME, has_draft
from training.job import is_trained, open_job
from voc.errors import IntegrityError, ModelError
from voc.run import Run
from voc.store.manifest import read_manifest, verify_directory

ARM = "mixed"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def make_run(root: Path, *, num_experts: int = 0) -> Run:
    base = make_tiny_model(root / "base", head_dim=32, num_experts=num_experts)  # the CPU build knows no head of 16
    serving = {"max_model_len": 384, "kv_cache_gib": 0.25, "start_timeout_s": 300}
    run = create_tiny_run(root / "run", base, training={"export": {"vllm_smoke": True}}, serving=serving)
    prepare(run, map_here)
    return run


def start_training(run: Run, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "training", "run", *words, "--arm", ARM]
    command += ["--store-uri", run.store.uri, "--run-id", run.layout.run_id]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=run.store.root, timeout=500)


def read_card(run: Run) -> dict:
    return yaml.safe_load(run.store.read_bytes(f"{run.layout.training(ARM)}/verification.yaml"))


def check_card(run: Run) -> None:
    assert is_trained(open_job(run, ARM))
    section = read_card(run)["vllm"]
    assert section["engine"].startswith("vllm ")
    assert section["prompts"] == section["answered"] == section["next_token_among_likely"] >= 2
    assert section["next_token_equal"] >= section["prompts"] - 1
    verify_directory(run.store, run.layout.training(ARM))
    assert not run.store.exists(f"{run.layout.training(ARM)}/{QUESTIONS_NAME}")


def test_a_model_with_experts_is_loaded_and_another_answer_than_the_trained_models_counts_as_no_training(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path, num_experts=4)
    done = start_training(run, "--without-ray")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loads the export and answers" in done.stdout
    check_card(run)

    # As a first rank leaves it, but with an answer that this model does not give.
    prefix = run.layout.training(ARM)
    (tmp_path / "run/store" / prefix / "manifest.json").unlink()
    prompt = [5, 6, 7, 8]
    run.store.write_bytes(f"{prefix}/{QUESTIONS_NAME}", json.dumps([{"prompt": prompt, "expected": 1}]).encode())
    assert has_draft(open_job(run, ARM))
    again = start_training(run, "--without-ray")
    assert again.returncode == IntegrityError("").exit_code, again.stdout + again.stderr
    assert "the trained model's next token is not among the engine's most likely ones for prompts [0]" in again.stderr
    assert "step 1/" not in again.stdout  # nothing was trained again
    assert read_manifest(run.store, prefix) is None


def test_on_ray_the_engine_gets_what_the_workers_let_go_of_and_an_export_it_cannot_load_is_named(
    tmp_path: Path, ray_head: RayHead
) -> None:
    run = make_run(tmp_path)
    done = start_training(run)
    assert done.returncode == 0, done.stdout + done.stderr
    check_card(run)

    prefix = run.layout.training(ARM)
    (tmp_path / "run/store" / prefix / "manifest.json").unlink()
    run.store.write_bytes(f"{prefix}/{QUESTIONS_NAME}", json.dumps([{"prompt": [5], "expected": 1}]).encode())
    export = tmp_path / "run/store" / run.layout.export(ARM) / "config.json"
    config = json.loads(export.read_text())
    export.write_text(json.dumps({**config, "head_dim": 24}))
    again = start_training(run, "--without-ray")
    assert again.returncode == ModelError("").exit_code, again.stdout + again.stderr
    assert "vLLM ended with status" in again.stderr
    assert read_manifest(run.store, prefix) is None
