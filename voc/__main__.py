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

from voc.arguments import parse_overrides, run_command
from voc.config.file import hash_config, load_config
from voc.config.night import NightforgeConfig
from voc.config.reference import describe_config
from voc.importers.acos import describe_import, import_acos, write_acos
from voc.mixture import describe_odd_sums
from voc.models.folder import put_model
from voc.preflight.preflight import run_preflight
from voc.store.layout import model_key
from voc.store.uri import open_store


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m voc", description="Data, models and configurations of Nightforge.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    importer = commands.add_parser("import", help="turn a public corpus into a taxonomy and VOC records")
    formats = importer.add_subparsers(required=True, metavar="FORMAT")
    acos = formats.add_parser("acos", help="aspect-category-opinion-sentiment quadruples (TSV)")
    acos.add_argument("--input", required=True, type=Path, help="folder with train.tsv, dev.tsv and test.tsv")
    acos.add_argument("--output", required=True, help="path or URI of the folder to write")
    acos.set_defaults(run=_import_acos)

    model = commands.add_parser("put-model", help="put a model folder with its manifest into the store")
    model.add_argument("--input", required=True, type=Path, help="folder in the Hugging Face layout")
    model.add_argument("--store-uri", required=True, help="file:///folder or s3://bucket/prefix")
    model.add_argument("--name", required=True, help="the model becomes models/NAME in the store")
    model.set_defaults(run=_put_model)

    check = commands.add_parser("check-config", help="read a configuration and report all of its mistakes")
    _add_config_arguments(check)
    check.set_defaults(run=_check_config)

    reference = commands.add_parser("describe-config", help="print the reference of all configuration keys (Markdown)")
    reference.set_defaults(run=_describe_config)

    preflight = commands.add_parser("preflight", help="check all that a night needs, then create the run")
    _add_config_arguments(preflight)
    preflight.add_argument("--run-id", required=True, help="the run's id: a folder below runs/ in the store")
    preflight.set_defaults(run=_preflight)

    mix = commands.add_parser("mix", help="read, check and plan a night's data; print what it would draw")
    mix.add_argument(
        "--output", type=Path, default=Path("mix"), help="folder for the data card, report and refused rows"
    )
    mix.set_defaults(run=_mix)
    show = commands.add_parser("show", help="print one sample of a night as the model sees it, learned parts in ⟦⟧")
    show.add_argument("--row", type=int, default=0, help="position in the arm's training order, from 0")
    show.add_argument("--arm", help="name of the arm; the first if it is not given")
    show.set_defaults(run=_show)
    export = commands.add_parser("export", help="write an arm's rows and shares as the closed service takes them")
    export.add_argument(
        "--output", required=True, type=Path, help="folder for the Converse JSONL files and data_mixing.json"
    )
    export.add_argument("--arm", help="name of the arm; the first if it is not given")
    export.add_argument("--dataset-catalog", help="the service's catalogue of general data, if not its usual one")
    export.set_defaults(run=_export)
    for command in (mix, show, export):
        _add_config_arguments(command)
        command.add_argument(
            "--without-ray", action="store_true", help="read and encode in this process, however much it is"
        )
    return parser


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help="path or URI of a configuration (YAML)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one key; repeatable")


def _load(arguments: argparse.Namespace) -> NightforgeConfig:
    return load_config(arguments.config, overrides=parse_overrides(arguments.set))


def _import_acos(arguments: argparse.Namespace) -> None:
    corpus = import_acos(arguments.input)
    manifest = write_acos(corpus, arguments.output)
    print(describe_import(corpus))
    print(f"written: {arguments.output} (digest {manifest.digest[:12]})")


def _put_model(arguments: argparse.Namespace) -> None:
    store = open_store(arguments.store_uri)
    manifest = put_model(arguments.input, store, arguments.name)
    size_bytes = sum(entry.size_bytes for entry in manifest.files)
    print(
        f"{store.uri}/{model_key(arguments.name)}: {len(manifest.files)} files, {size_bytes} bytes, digest {manifest.digest}"
    )


def _check_config(arguments: argparse.Namespace) -> None:
    config = _load(arguments)
    arms = ", ".join(arm.name for arm in config.arms) or "none"
    print(f"{arguments.config} is right: {config.name}, arms {arms}, hash {hash_config(config)}")
    for arm in config.arms:
        for note in describe_odd_sums(arm.sources):
            print(f"note: arm {arm.name}: {note}")


def _describe_config(_: argparse.Namespace) -> None:
    print(describe_config(), end="")


def _preflight(arguments: argparse.Namespace) -> None:
    result = run_preflight(_load(arguments), arguments.run_id)
    for finding in result.findings:
        print(f"ok  {finding.subject}: {finding.detail}")
    print(f"run {result.run_id} in {result.store_uri}, configuration {result.config_hash}")


def _mix(arguments: argparse.Namespace) -> None:
    from corpus.command import run_mix  # pyarrow and a tokenizer, for these commands only

    run_mix(arguments, _load(arguments))


def _show(arguments: argparse.Namespace) -> None:
    from corpus.command import run_show

    run_show(arguments, _load(arguments))


def _export(arguments: argparse.Namespace) -> None:
    from corpus.command import run_export

    run_export(arguments, _load(arguments))


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
