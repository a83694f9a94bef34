"""The command lines of all packages: a table of commands each, and how a stage that runs as a Ray job gets its arguments.

A Ray entrypoint goes through a shell, so it is fixed words; whatever a person can type in a form travels as a JSON list in
one environment variable and is read here, by the stage's ordinary argument parser. A table names the function of a command by
its address, so that a light command does not pay for the imports of a heavy one.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TextIO

import yaml

from voc.errors import ConfigError, VocError

ARGUMENTS_VARIABLE = "NIGHTFORGE_ARGUMENTS"
USER_ERROR_EXIT = VocError.exit_code
_SIGPIPE_EXIT = 128 + signal.SIGPIPE


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command, as `argparse` takes it.

    Attributes:
        flag: `--name`, or the name of a position.
        settings: What `ArgumentParser.add_argument` is told of it.
    """

    flag: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a table.

    Attributes:
        function: Address of what is called with the parsed arguments, "package.module:function"; imported only then. What it
            returns is the exit code, None is 0.
        help: One line.
        arguments: What it takes.
    """

    function: str
    help: str
    arguments: Sequence[Argument] = ()

    def run(self, arguments: argparse.Namespace) -> int | None:
        """Import the function and call it."""
        module, _, name = self.function.partition(":")
        code: int | None = getattr(import_module(module), name)(arguments)
        return code


def argument(flag: str, **settings: Any) -> Argument:
    """Return one argument of a command."""
    return Argument(flag, settings)


# What every stage of a run takes, and what reads a configuration.
RUN_ARGUMENTS = (
    argument("--store-uri", required=True, help="the store's URI: file:///folder or s3://bucket/prefix"),
    argument("--run-id", required=True, help="the run's id: a folder below runs/ in the store"),
)
CONFIG_ARGUMENTS = (
    argument("--config", required=True, help="path or URI of a configuration (YAML)"),
    argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key; repeatable"),
)


def build_parser(prog: str, description: str | None, commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser of a table of commands; a name of two words is a command with a kind ("import acos")."""
    parser = argparse.ArgumentParser(
        prog=prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}
    for name, command in commands.items():
        group, _, last = name.rpartition(" ")
        if group not in groups:
            kinds = groups[""].add_parser(group, help=command.help)
            groups[group] = kinds.add_subparsers(required=True, metavar="KIND")
        one = groups[group].add_parser(last, help=command.help, description=command.help)
        one.set_defaults(run=command.run)
        for each in command.arguments:
            one.add_argument(each.flag, **each.settings)
    return parser


def stage_arguments(argv: Sequence[str] | None = None) -> list[str]:
    """Return the arguments of this process: `argv`, else the command line, else the environment variable."""
    if argv is not None:
        return list(argv)
    if len(sys.argv) > 1 or ARGUMENTS_VARIABLE not in os.environ:
        return sys.argv[1:]
    try:
        values = json.loads(os.environ[ARGUMENTS_VARIABLE])
    except ValueError as error:
        raise ConfigError(f"{ARGUMENTS_VARIABLE} is not JSON: {error}", expected="a list of strings") from error
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ConfigError(f"{ARGUMENTS_VARIABLE} holds {values!r}", expected="a list of strings")
    return values


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse, call the chosen `run` function, and turn a named error into one message and its exit code, mostly 2.

    The parser's commands set `run` with `set_defaults(run=function)`; the function takes the parsed arguments. If the reader
    of what is printed goes away (`| head`), the command ends quietly with exit code 141, as a shell reports SIGPIPE.
    """
    try:
        try:
            return _run_chosen(parser, argv)
        finally:
            sys.stdout.flush()  # here, and not at the interpreter's end, where an error can no longer be caught
    except BrokenPipeError:
        broken = [stream for stream in (sys.stdout, sys.stderr) if _has_lost_reader(stream)]
        if not broken:
            raise
        for stream in broken:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), stream.fileno()
            )  # the interpreter flushes what is left at its end
        return _SIGPIPE_EXIT


def _run_chosen(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    try:
        arguments = parser.parse_args(stage_arguments(argv))
        run: Callable[[argparse.Namespace], int | None] = arguments.run
        return run(arguments) or 0
    except VocError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code


def _has_lost_reader(stream: TextIO) -> bool:
    """Return whether a stream goes to a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(stream, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """Read `key.path=value` pairs; values are YAML, so numbers, true/false, null and lists keep their type.

    Raises:
        ConfigError: If a pair has no `=`, or its value is not YAML.
    """
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of --set {setting!r} is not YAML: {error}") from error
        if not (equals and key.strip()):
            raise ConfigError(f"--set {setting!r} sets nothing", expected="--set training.max_steps=100")
    return overrides
