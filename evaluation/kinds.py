"""Which suites measure which kind of model.

A closed model gives no log-probabilities of chosen tokens and takes no list of allowed answers; a file of its answers only has
those that were asked for. What cannot be measured is left out of a row by name, and everything else must be complete as for
any model.
"""

from __future__ import annotations

from collections.abc import Iterable

from voc.run import ModelEntry

VOC, GENERATIVE = "voc", "mmlu_generative"


def measures(entry: ModelEntry, suite: str) -> bool:
    """Tell whether a suite is part of a model's row."""
    if entry.kind == "vllm":
        return True
    return suite == VOC or (suite == GENERATIVE and entry.kind != "imported")


def list_suites(entry: ModelEntry, suites: Iterable[str]) -> list[str]:
    """Return those of `suites` that are part of a model's row."""
    return [suite for suite in suites if measures(entry, suite)]


def say_if_not_asked(entry: ModelEntry, suite: str) -> bool:
    """Tell whether there is nothing to ask a model in a suite, and print why."""
    if entry.kind == "imported":
        print(f"{suite} {entry.name}: its answers are imported, nothing to ask", flush=True)
        return True
    if not measures(entry, suite):
        print(f"{suite} {entry.name}: a model of the kind {entry.kind} cannot be measured so", flush=True)
        return True
    return False
