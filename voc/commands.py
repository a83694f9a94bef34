"""What the commands of `python -m voc` do: each reads its arguments, calls the package that does the work, and prints."""

from __future__ import annotations

import argparse

from voc.config.file import hash_config, load_chosen_config
from voc.config.reference import describe_config
from voc.importers import acos
from voc.mixture import describe_odd_sums
from voc.models import folder
from voc.preflight.preflight import run_preflight
from voc.store.layout import model_key
from voc.store.uri import open_store


def import_acos(arguments: argparse.Namespace) -> None:
    """Turn the ACOS corpus into a taxonomy and VOC records."""
    corpus = acos.import_acos(arguments.input)
    manifest = acos.write_acos(corpus, arguments.output)
    print(acos.describe_import(corpus))
    print(f"written: {arguments.output} (digest {manifest.digest[:12]})")


def put_model(arguments: argparse.Namespace) -> None:
    """Put a model folder with its manifest into the store."""
    store = open_store(arguments.store_uri)
    manifest = folder.put_model(arguments.input, store, arguments.name)
    size_bytes = sum(entry.size_bytes for entry in manifest.files)
    print(
        f"{store.uri}/{model_key(arguments.name)}: {len(manifest.files)} files, {size_bytes} bytes, digest {manifest.digest}"
    )


def check_config(arguments: argparse.Namespace) -> None:
    """Read a configuration and say what it is."""
    config = load_chosen_config(arguments)
    arms = ", ".join(arm.name for arm in config.arms) or "none"
    print(f"{arguments.config} is right: {config.name}, arms {arms}, hash {hash_config(config)}")
    for arm in config.arms:
        for note in describe_odd_sums(arm.sources):
            print(f"note: arm {arm.name}: {note}")


def print_config_reference(_: argparse.Namespace) -> None:
    """Print the reference of all configuration keys."""
    print(describe_config(), end="")


def preflight(arguments: argparse.Namespace) -> None:
    """Check all that a night needs and create the run."""
    result = run_preflight(load_chosen_config(arguments), arguments.run_id)
    for finding in result.findings:
        print(f"ok  {finding.subject}: {finding.detail}")
    print(f"run {result.run_id} in {result.store_uri}, configuration {result.config_hash}")
