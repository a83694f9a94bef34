"""The command line of evaluation: `python -m evaluation <command> --store-uri URI --run-id ID ...`.

In pipeline order: serve, wait (for external models connect), the suites' own commands (voc, import-outputs, mmlu, lm-eval;
and compare, for two finished runs), gather, decide, report, promote. A module is imported only for its own command, so that a
light client does not pay for the imports of a heavy one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from evaluation.suites.protocol import MODEL_ARGUMENT
from evaluation.suites.registry import list_commands
from voc.arguments import RUN_ARGUMENTS, Command, argument, build_parser, run_command

_EXTERNAL = argument("--model", required=True, help="name of an external model in the run's models.json")
_SERVE_JOB = argument(
    "--serve-submission-id", help="submission id of the serve job in Ray; without it, a server started by hand"
)
COMMANDS = {
    "serve": Command(
        "evaluation.serving.serve:run_serve", "serve a model until told to stop", (*RUN_ARGUMENTS, MODEL_ARGUMENT)
    ),
    "wait": Command(
        "evaluation.serving.wait:run_wait",
        "wait until a model's serve job is healthy",
        (*RUN_ARGUMENTS, MODEL_ARGUMENT, _SERVE_JOB),
    ),
    "connect": Command(
        "evaluation.serving.connect:run_connect",
        "check an external model, or import its answers",
        (*RUN_ARGUMENTS, _EXTERNAL),
    ),
    **list_commands(),
    "gather": Command(
        "evaluation.gather:run_gather", "merge shards, check coverage, compute every figure", RUN_ARGUMENTS
    ),
    "decide": Command(
        "evaluation.commands:run_decide",
        "compare candidates with references: GO, NO-GO or INCONCLUSIVE",
        RUN_ARGUMENTS,
    ),
    "report": Command(
        "evaluation.report.write:run_report",
        "write the report: HTML, JSON, Parquet, text, plots",
        (
            *RUN_ARGUMENTS,
            argument("--print", action="store_true", dest="is_printed", help="print the report's text too"),
        ),
    ),
    "promote": Command(
        "evaluation.decision.promote:run_promote", "write the champion log if the decision is GO", RUN_ARGUMENTS
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return run_command(build_parser("python -m evaluation", __doc__, COMMANDS), argv)


if __name__ == "__main__":
    sys.exit(main())
