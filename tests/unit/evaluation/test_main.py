import subprocess
import sys

import pytest

from evaluation.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_a_help_text(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "--run-id" in capsys.readouterr().out


def test_an_unknown_command_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["srve"])
    assert ended.value.code == 2
    assert "voc" in capsys.readouterr().err


def test_broken_arguments_of_a_job_are_one_message(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluation"])
    monkeypatch.setenv("NIGHTFORGE_ARGUMENTS", "not json")
    assert main() == 2
    assert "NIGHTFORGE_ARGUMENTS" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "wait", "voc", "mmlu", "lm-eval"])
def test_a_light_command_imports_nothing_heavy(command):
    code = (
        "import sys; from importlib import import_module; from evaluation.__main__ import COMMANDS; "
        f"import_module(COMMANDS[{command!r}].function.partition(':')[0]); "
        "print([m for m in ('torch', 'vllm', 'ray', 'transformers', 'lm_eval', 'datasets', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
