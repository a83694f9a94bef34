"""What the benchmarks against a peer share: its packages out of everybody's way, inputs that are made once, measured sides.

A side is a module below this folder that runs in a process of its own and prints one JSON object as its last line.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.memory import CommandRun, run_measured
from voc.models.folder import cache_folder

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "benchmarks" / "requirements-data.lock"
CORES = 2
_SHOWN_LOG_CHARS = 3000

Figures = dict[str, Any]


def make_peer_folder() -> Path:
    """Install the peer's packages into a folder named after the lock, unless they are there, and return it."""
    name = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = cache_folder() / "envs" / f"data-peer-{name}"
    if not (folder / ".complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        uv = str(Path(sys.executable).with_name("uv"))
        install = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--no-deps", "--require-hashes"]
        subprocess.run([*install, "--target", str(folder), "--requirement", str(LOCK)], check=True)
        (folder / ".complete").touch()
    return folder


def make_rows(num_rows: int) -> Path:
    """Return the folder of the study corpus' first rows, made once."""
    return make_input("study.rows", f"-{num_rows}", ["--rows", str(num_rows)])


def make_input(module: str, variant: str, options: Sequence[str]) -> Path:
    """Let a module write its folder of inputs in a process of its own, once per state of its package, and return it.

    Args:
        module: A module below `benchmarks` with `--output`, a folder that is not there yet.
        variant: What tells folders of the same module apart.
        options: Its other arguments.
    """
    room, _, name = module.partition(".")
    sources = sorted(path for path in (ROOT / "benchmarks" / room).rglob("*") if path.suffix in {".py", ".txt", ".csv"})
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]
    folder = cache_folder() / "benchmarks" / f"{room}-{name}-{state}{variant}"
    if not folder.is_dir():
        draft = folder.with_name(f"{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", f"benchmarks.{module}", *options, "--output", str(draft)]
        subprocess.run(command, check=True, env=make_environment(), stdout=subprocess.DEVNULL)
        draft.rename(folder)
    return folder


def run_side(module: str, options: Sequence[str], output: Path, extra: Mapping[str, str]) -> tuple[Figures, CommandRun]:
    """Run one side to its end and return what it printed and how it ran.

    Args:
        module: A module below `benchmarks`.
        options: Its arguments.
        output: Folder that it may write to, emptied first; its log lies beside.
        extra: Environment variables of this side only.

    Raises:
        RuntimeError: If it fails or prints no figures; with the end of its log.
    """
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    stdout, stderr = output.with_suffix(".out"), output.with_suffix(".err")
    command = [sys.executable, "-m", f"benchmarks.{module}", *options]
    run = run_measured(command, env={**make_environment(), **extra}, stdout=stdout, stderr=stderr)
    lines = stdout.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if run.returncode != 0 or not lines or not lines[-1].startswith("{"):
        log = stderr.read_text(encoding="utf-8", errors="replace")[-_SHOWN_LOG_CHARS:]
        raise RuntimeError(f"{module} ended with status {run.returncode}. Its log ({stderr}) ends with:\n{log}")
    return json.loads(lines[-1]), run


def make_environment() -> dict[str, str]:
    """Return the environment of every process: offline, the clone first, no leftovers of the caller."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "RAY_", "PYTHONPATH"))}
    return {**kept, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
