"""The command line of evaluation: `python -m evaluation <command> --store-uri URI --run-id ID ...`.

In pipeline order: serve, wait (for external models connect, import-outputs), voc, mmlu, lm-eval, gather, decide, report, promote;
and compare, for two finished runs. A module is imported only for its own command, so that a light client does not pay for
the imports of a heavy one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from voc.arguments import USER_ERROR_EXIT, run_command, stage_arguments
from voc.errors import VocError

COMMANDS = {
    "serve": "evaluation.serving.serve",
    "wait": "evaluation.serving.wait",
    "connect": "evaluation.serving.connect",
    "import-outputs": "evaluation.suites.voc.import_outputs",
    "voc": "evaluation.suites.voc.ask",
    "mmlu": "evaluation.suites.mmlu.ask",
    "lm-eval": "evaluation.suites.lm_eval.ask",
    "gather": "evaluation.gather",
    "decide": "evaluation.decision.decide",
    "report": "evaluation.report.write",
    "promote": "evaluation.decision.promote",
    "compare": "evaluation.compare",
}


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser: of the one command that `argv` starts with, or of all of them for help and for a wrong name."""
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    subparsers = parser.add_subparsers(metavar="command", required=True)
    chosen = [argv[0]] if argv and argv[0] in COMMANDS else list(COMMANDS)
    for name in chosen:
        import_module(COMMANDS[name]).add_command(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        words = stage_arguments(argv)
    except VocError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return USER_ERROR_EXIT
    return run_command(build_parser(words), words)


if __name__ == "__main__":
    sys.exit(main())
