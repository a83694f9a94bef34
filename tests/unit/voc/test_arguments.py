from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pytest

from voc.arguments import (
    ARGUMENTS_VARIABLE,
    RUN_ARGUMENTS,
    USER_ERROR_EXIT,
    Command,
    argument,
    build_parser,
    run_command,
    stage_arguments,
)
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


PRINTS_MUCH = """
import argparse, sys
from voc.arguments import run_command

def run(_):
    print("first", flush=True)
    for number in range({lines}):
        print(number)

parser = argparse.ArgumentParser()
parser.set_defaults(run=run)
sys.exit(run_command(parser, {words}))
"""


@pytest.mark.parametrize(
    ("lines", "words", "unbuffered"),
    [(100_000, [], ""), (100_000, [], "1"), (10, [], ""), (10, ["--help"], "")],
    ids=["while it prints", "unbuffered", "at its end", "help"],
)
def test_a_reader_that_goes_away_ends_the_command_quietly(lines: int, words: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    script = PRINTS_MUCH.format(lines=lines, words=words)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_broken_pipe_that_is_not_the_readers_keeps_its_traceback() -> None:
    def lose(_: argparse.Namespace) -> None:
        raise BrokenPipeError("of a socket")

    with pytest.raises(BrokenPipeError, match="of a socket"):
        run_command(_parser(lose), [])


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


def test_every_stage_takes_the_same_two_arguments() -> None:
    parser = build_parser("stage", None, {"go": Command("json:dumps", "help", RUN_ARGUMENTS)})
    parsed = parser.parse_args(["go", "--store-uri", "s3://b/p", "--run-id", "r"])
    assert (parsed.store_uri, parsed.run_id) == ("s3://b/p", "r")


def test_a_table_imports_the_function_of_the_chosen_command_only() -> None:
    commands = {
        "first": Command("no.such.module:run", "never chosen"),
        "second kind": Command("operator:attrgetter", "chosen", (argument("--name"),)),
    }
    parser = build_parser("stage", "What it does.", commands)
    assert parser.parse_args(["second", "kind", "--name", "x"]).name == "x"
    with pytest.raises(ModuleNotFoundError, match="no"):
        run_command(parser, ["first"])
