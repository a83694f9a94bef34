from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.__main__ import main
from voc.config.file import read_preset

MACHINE = ["--nodes", "1", "--gpus-per-node", "8", "--gpu-memory-gib", "80"]
SMALL = ["--nodes", "1", "--gpus-per-node", "1", "--gpu-memory-gib", "24"]


def plan(*arguments: str) -> int:
    return main(["plan", *arguments])


def test_a_preset_that_fits_is_exit_code_0_with_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--model", "qwen3-8b", *MACHINE) == 0
    out = capsys.readouterr().out
    assert "8.19 G parameters" in out
    assert "16 bytes per parameter" in out
    assert "fits, with" in out


def test_one_that_does_not_fit_is_exit_code_1_and_says_what_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--model", "qwen3-8b", *SMALL) == 1
    out = capsys.readouterr().out
    assert "does not fit" in out
    assert "training.optimizer.name: adamw_8bit" in out


def test_a_folder_is_planned_from_its_config_json_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(read_preset("qwen3-8b").architecture))
    settings = [
        "--set",
        "training.activation_checkpointing=full",
        "--set",
        "training.gradient_sync=every_pass",
        "--json",
    ]
    assert plan("--model", str(tmp_path), *MACHINE, *settings) == 0
    from_folder = json.loads(capsys.readouterr().out)
    assert plan("--model", "qwen3-8b", *MACHINE, *settings) == 0
    assert json.loads(capsys.readouterr().out) == from_folder


def test_the_training_section_of_a_configuration_is_planned_without_its_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nightly = str(Path(__file__).parents[4] / "configs" / "nightly.yaml")
    machine = ["--nodes", "2", "--gpus-per-node", "8", "--gpu-memory-gib", "80"]
    assert plan("--model", "qwen3-30b-a3b", *machine, "--config", nightly, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["num_gpus"] == 16
    assert value["num_parameters"] == 30_532_122_624


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "qwen3-9b", *MACHINE], "neither a preset nor a folder"),
        (["--model", "qwen3-8b", *MACHINE, "--nodes", "0"], "--nodes is 0"),
        (["--model", "qwen3-8b", *MACHINE, "--set", "serving.num_gpus=1"], "changes nothing in a plan"),
        (["--model", "qwen3-8b", *MACHINE, "--set", "training.max_sequence=1"], "unknown key; did you mean"),
        (
            ["--model", "qwen3-30b-a3b", *SMALL, "--set", "training.experts.parallel_size=16"],
            "does not divide 1 GPUs",
        ),
    ],
)
def test_mistakes_are_one_message(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(*arguments) == 2
    assert message in capsys.readouterr().err


def test_a_plan_needs_neither_torch_nor_pydantic_in_its_arithmetic() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'pydantic', 'transformers', 'ray', 'yaml']));"
        "import voc.memory.plan, voc.memory.advice, voc.memory.advice, voc.models.shapes"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
