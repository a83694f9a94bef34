"""The README's blocks do what they say: each is run in one bash, in the order of the page, at a smaller size.

`make demo`, `make up` and `make test` are other tests' (test_night.py) or these; here make only shows that it knows the way.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.ray_head import RayHead
from voc.store.layout import RunLayout
from voc.store.manifest import verify_directory
from voc.store.uri import open_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

TIMEOUT_S = 800
BLOCKS = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "README.md").read_text(), flags=re.S)
WORLD_SIZE = (
    "--pretrain-steps 3 --pretrain-batch-size 4 --train-comments 40 --test-comments 7 --general-rows 20 --questions 12"
)
# Of configs/demo.yaml, what makes a run long.
SMALLER = {
    "data": {"contamination": {"max_ratio": 1}},  # one of a few test comments is already more than the default share
    "training": {
        "max_steps": 4,
        "global_batch_size": 8,
        "micro_batch_size": 4,
        "max_seq_len": 512,
        "validation": {"every_steps": 2, "rows_per_stratum": 2},
        "checkpoint": {"every_steps": 2},
        "export": {"vllm_smoke": False},  # the block serves the model anyway
    },
    "evaluation": {"voc": {"max_tokens": 16}},
}
ACOS = "the battery is dead\t1,2 BATTERY#GENERAL 0 3,4\n"


def write_smaller(path: Path) -> Path:
    tree = yaml.safe_load((REPOSITORY / "configs" / "demo.yaml").read_text())
    for section, changes in SMALLER.items():
        tree[section] |= changes
    path.write_text(yaml.safe_dump(tree))
    return path


def run_block(block: str, replacements: dict[str, str]) -> str:
    """Run a block in one bash that ends at the first line that fails, and return what it printed."""
    for old, new in replacements.items():
        block = block.replace(old, new)
    script = f"set -eu -o pipefail\n{block}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        printed = process.communicate(timeout=TIMEOUT_S)[0]
    finally:
        if process.poll() != 0:  # its server must not outlive a line that failed
            os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 0, printed[-6000:]
    return printed


@pytest.mark.parametrize("block", [block for block in BLOCKS if "python -m evaluation serve" in block])
def test_every_stage_runs_by_hand(block: str, ray_head: RayHead, tmp_path: Path) -> None:
    store_folder = tmp_path / "store"
    printed = run_block(
        block,
        {
            "/tmp/nightforge-world": str(tmp_path / "world"),
            "/tmp/nightforge": str(store_folder),
            "configs/demo.yaml": str(write_smaller(tmp_path / "smaller.yaml")),
            "python -m demo make": f"python -m demo make {WORLD_SIZE}",
        },
    )
    layout, store = RunLayout("try-1"), open_store(str(store_folder))
    verify_directory(store, layout.export("mix_75_25"))
    lines = store.read_bytes(f"{layout.shard('mix_75_25', 'voc', 0, 1)}/predictions.jsonl").splitlines()
    assert len(lines) == 7
    assert "is healthy at http://127.0.0.1:" in printed
    assert list(store_folder.rglob("endpoint.json")) == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if "voc import" in block])
def test_a_public_corpus_becomes_data(block: str, tmp_path: Path) -> None:
    (tmp_path / "laptop-acos").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "laptop-acos" / f"{split}.tsv").write_text(ACOS.replace("dead", f"dead {split}"))
    lines = [re.sub(r"\bmake demo\b", "make -n demo", line) for line in block.splitlines()]
    run_block(
        "\n".join(['export PATH="$(dirname "$RAY_PYTHON"):$PATH"', *lines]),
        {"path/to/laptop-acos": str(tmp_path / "laptop-acos"), "/tmp/acos": str(tmp_path / "acos")},
    )
    assert (tmp_path / "acos" / "taxonomy.csv").is_file()


def test_no_block_is_left_out() -> None:
    tested = ("python -m evaluation serve", "voc import")
    rest = [block for block in BLOCKS if not any(words in block for words in tested)]
    lines = [line.split("#")[0].strip() for block in rest for line in block.splitlines()]
    assert all(line.startswith("make ") for line in lines if line), lines
    for line in filter(None, lines):
        run_block(line.replace("make ", "make -n ", 1), {})
