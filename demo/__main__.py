"""Make the laptop twin's world.

    python -m demo make --output .nightforge/demo
    python -m demo study-corpus --output .nightforge/study [--scale 100]

`make` writes `base/` (model), `data/` (taxonomy, VOC records, general rows), `mmlu/` (questions) and `card.json`.
`study-corpus` writes taxonomy.csv, train.jsonl, test.jsonl, general.jsonl and card.html of the size of the reference study.
A second call finds the folders finished.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from demo.make import make_demo
from demo.recipe import Recipe
from voc.arguments import run_command


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; `make` has one option per field of the recipe."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="Make the laptop twin's world.")
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("make", help="make base model, data and questions, unless they are there")
    make.add_argument("--output", type=Path, required=True, help="folder to write")
    for field in fields(Recipe):
        option = f"--{field.name.replace('_', '-')}"
        make.add_argument(option, type=int, default=field.default, help=f"default {field.default}")
    make.set_defaults(run=_make)
    study = commands.add_parser("study-corpus", help="write the study corpus (1,420 leaves, 14,511 + 861 comments)")
    study.add_argument("--output", type=Path, required=True, help="folder to write")
    study.add_argument("--scale", type=int, default=1, help="times the training and general rows, default 1")
    study.set_defaults(run=_make_study_corpus)
    return parser


def _make(arguments: argparse.Namespace) -> None:
    make_demo(arguments.output, Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)}))


def _make_study_corpus(arguments: argparse.Namespace) -> None:
    from demo.study.write import make_study_corpus

    make_study_corpus(arguments.output, arguments.scale)


if __name__ == "__main__":
    sys.exit(run_command(build_parser()))
