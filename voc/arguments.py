"""How a stage that runs as a Ray job gets its arguments.

A Ray entrypoint goes through a shell, so it is fixed words; whatever a person can type in a form travels as a JSON list in
one environment variable and is read here, by the stage's ordinary argument parser.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import yaml

from voc.errors import ConfigError, VocError

ARGUMENTS_VARIABLE = "NIGHTFORGE_ARGUMENTS"
USER_ERROR_EXIT = VocError.exit_code
_SIGPIPE_EXIT = 128 + signal.SIGPIPE


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
