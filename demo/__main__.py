"""Make the laptop twin's world.

    python -m demo make --output .nightforge/demo

It writes `base/` (model), `data/` (taxonomy, VOC records, general rows), `mmlu/` (questions) and `card.json`. A second call
finds the folders finished.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from demo.recipe import Recipe
from voc.arguments import Command, argument, build_parser, run_command

RECIPE_ARGUMENTS = tuple(
    argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default, help=f"default {field.default}")
    for field in fields(Recipe)
)
COMMANDS = {
    "make": Command(
        "demo.make:make_from_arguments",
        "make base model, data and questions, unless they are there",
        (argument("--output", type=Path, required=True, help="folder to write"), *RECIPE_ARGUMENTS),
    ),
}

if __name__ == "__main__":
    sys.exit(run_command(build_parser("python -m demo", __doc__, COMMANDS)))
