"""The command line of the domain: `python -m voc COMMAND`.

Commands: `import acos` (a public corpus under the contract), `put-model` (a model folder into the store), `check-config`,
`describe-config` (the reference of all keys), `preflight` (all checks of a night; creates the run), `mix` (what a night would
draw, as a table and a data card), `show` (one sample of it as the model sees it) and `export` (an arm's data for the closed
service).
A named error is one message on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from voc.arguments import CONFIG_ARGUMENTS, Command, argument, build_parser, run_command

_ARM = argument("--arm", help="name of the arm; the first if it is not given")
# What reads a night's data without the night takes.
_DATA_ARGUMENTS = (
    *CONFIG_ARGUMENTS,
    argument("--without-ray", action="store_true", help="read and encode in this process, however much it is"),
)

# The last three are the corpus's: they are named by their address, and need pyarrow and a tokenizer, the others do not.
COMMANDS = {
    "import acos": Command(
        "voc.commands:import_acos",
        "turn the corpus of aspect-category-opinion-sentiment quadruples (TSV) into a taxonomy and VOC records",
        (
            argument("--input", required=True, type=Path, help="folder with train.tsv, dev.tsv and test.tsv"),
            argument("--output", required=True, help="path or URI of the folder to write"),
        ),
    ),
    "put-model": Command(
        "voc.commands:put_model",
        "put a model folder with its manifest into the store",
        (
            argument("--input", required=True, type=Path, help="folder in the Hugging Face layout"),
            argument("--store-uri", required=True, help="file:///folder or s3://bucket/prefix"),
            argument("--name", required=True, help="the model becomes models/NAME in the store"),
        ),
    ),
    "check-config": Command(
        "voc.commands:check_config", "read a configuration and report all of its mistakes", CONFIG_ARGUMENTS
    ),
    "describe-config": Command(
        "voc.commands:print_config_reference", "print the reference of all configuration keys (Markdown)"
    ),
    "preflight": Command(
        "voc.commands:preflight",
        "check all that a night needs, then create the run",
        (
            *CONFIG_ARGUMENTS,
            argument("--run-id", required=True, help="the run's id: a folder below runs/ in the store"),
        ),
    ),
    "mix": Command(
        "corpus.command:run_mix",
        "read, check and plan a night's data; print what it would draw",
        (
            argument(
                "--output", type=Path, default=Path("mix"), help="folder for the data card, report and refused rows"
            ),
            *_DATA_ARGUMENTS,
        ),
    ),
    "show": Command(
        "corpus.command:run_show",
        "print one sample of a night as the model sees it, learned parts in ⟦⟧",
        (
            argument("--row", type=int, default=0, help="position in the arm's training order, from 0"),
            _ARM,
            *_DATA_ARGUMENTS,
        ),
    ),
    "export": Command(
        "corpus.command:run_export",
        "write an arm's rows and shares as the closed service takes them",
        (
            argument(
                "--output", required=True, type=Path, help="folder for the Converse JSONL files and data_mixing.json"
            ),
            _ARM,
            argument("--dataset-catalog", help="the service's catalogue of general data, if not its usual one"),
            *_DATA_ARGUMENTS,
        ),
    ),
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    return build_parser("python -m voc", "Data, models and configurations of Nightforge.", COMMANDS)


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
