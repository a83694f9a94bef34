"""Commands that join two rooms of `evaluation`; every other one is a function of the room that it is about."""

from __future__ import annotations

import argparse

from evaluation.decision.decide import decide
from evaluation.report.text_tables import format_decision
from voc.run import open_run


def run_decide(arguments: argparse.Namespace) -> None:
    """Open the run, decide, and print the reasons."""
    decision = decide(open_run(arguments.store_uri, arguments.run_id))
    print("\n".join(format_decision(decision)), flush=True)
