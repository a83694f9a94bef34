from __future__ import annotations

import argparse
import json

import pytest

from voc.arguments import ARGUMENTS_VARIABLE, USER_ERROR_EXIT, run_command, stage_arguments
from voc.errors import ConfigError, DataError


def _parser(run) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stage")
    parser.add_argument("--name")
    parser.set_defaults(run=run)
    return parser


def _fail(_: argparse.Namespace) -> None:
    raise DataError("seen 3", expected="4", remedy="count again")


def test_a_named_error_is_one_message_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(_parser(_fail), []) == USER_ERROR_EXIT == 2
    captured = capsys.readouterr()
    assert captured.err == "DataError: seen 3. Expected: 4. To do: count again.\n"
    assert captured.out == ""


def test_success_is_0_and_a_returned_code_is_kept() -> None:
    assert run_command(_parser(lambda _: None), []) == 0
    assert run_command(_parser(lambda _: 7), []) == 7


def test_a_bug_keeps_its_traceback() -> None:
    def bug(_: argparse.Namespace) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(_parser(bug), [])


def test_the_environment_gives_the_arguments_of_a_fixed_entrypoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setenv(ARGUMENTS_VARIABLE, json.dumps(["--name", "a; rm -rf $HOME"]))
    assert stage_arguments() == ["--name", "a; rm -rf $HOME"]


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stage", "--name", "typed"])
    monkeypatch.setenv(ARGUMENTS_VARIABLE, '["--name", "environment"]')
    assert stage_arguments() == ["--name", "typed"]


@pytest.mark.parametrize("value", ["--name x", '{"name": 1}', "[1]", ""])
def test_arguments_that_are_no_list_of_strings_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setenv(ARGUMENTS_VARIABLE, value)
    with pytest.raises(ConfigError, match="list of strings"):
        stage_arguments()


def test_unreadable_arguments_are_a_message_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["stage"])
    monkeypatch.setenv(ARGUMENTS_VARIABLE, "nonsense")
    assert run_command(_parser(lambda _: None)) == USER_ERROR_EXIT
    assert "ConfigError" in capsys.readouterr().err
