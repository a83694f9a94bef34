"""The engine and its benchmark on a machine that has torch and transformers and little else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("airflow", "boto3", "lm_eval", "mlflow", "pydantic", "ray", "torchao", "trl", "vllm")
SCRIPT = """
import importlib, importlib.util, pkgutil, sys

ABSENT = {names!r}
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in ABSENT else find_spec(name, package)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import benchmarks.engine.train_gpu
import training.engine
for module in sorted(pkgutil.iter_modules(training.engine.__path__), key=lambda found: found.name):
    importlib.import_module("training.engine." + module.name)
print("loaded", len([name for name in sys.modules if name.startswith("training.")]))
"""


def test_the_engine_needs_no_more_than_a_bare_cuda_machine_has() -> None:
    script = SCRIPT.format(names=set(ABSENT))
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=200)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.startswith("loaded ")
