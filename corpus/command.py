"""What `python -m voc mix`, `show` and `export` do: a night's data without the night.

Everything is read, checked, compared, encoded and planned as `prepare` does it, in a temporary folder; nothing is written to the
store. Only the folder named by `--output` stays.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from corpus.build import OVERLAPS, QUARANTINE, build_corpus, read_inputs
from corpus.encoding.base_model import BaseModel
from corpus.encoding.encode import format_sample
from corpus.export import BLOCK_FILE, describe_export, export_rows, make_block
from corpus.ground.stored_file import localise
from corpus.ground.tasks import TaskRunner, map_here
from corpus.mixing.arms import ArmPlan, locate_rows, plan_arm
from corpus.mixing.held_out import Corpus
from corpus.parts.part_files import open_tokens
from corpus.report.card import render_card
from corpus.report.data_report import build_report, list_dropped
from corpus.report.mix_table import format_mix
from voc.config.arms import ArmConfig
from voc.config.file import load_chosen_config
from voc.config.night import NightforgeConfig
from voc.errors import ConfigError
from voc.labels.taxonomy import Taxonomy
from voc.store.local import LocalStore
from voc.store.uri import open_store

_PREFIX = "data"
WRITTEN = ("data_card.html", "data_report.json", "dropped.jsonl", QUARANTINE, OVERLAPS)


@dataclass(frozen=True)
class Rehearsal:
    """A night's data, as far as the plan of every arm.

    Attributes:
        taxonomy: The labels.
        base: The model that encodes.
        corpus: What was read.
        plans: What each arm draws.
    """

    taxonomy: Taxonomy
    base: BaseModel
    corpus: Corpus
    plans: tuple[ArmPlan, ...]


@contextmanager
def rehearse(config: NightforgeConfig, *, with_workers: bool, output: Path | None = None) -> Iterator[Rehearsal]:
    """Read and plan everything that a night would, in a folder that is removed afterwards.

    Args:
        config: The night's configuration.
        with_workers: Whether workers make the parts, of this machine or a cluster, where there are many.
        output: Gets `quarantine.jsonl` and `overlaps.jsonl`, also if the data is refused: its reader wants to know which rows.
    """
    with tempfile.TemporaryDirectory(prefix="nightforge-mix-") as name, TaskRunner() as runner:
        store = LocalStore(Path(name))
        map_parts = runner if with_workers else map_here
        reading = read_inputs(config, open_store(config.store.uri), map_parts)
        try:
            corpus = build_corpus(reading, config, store.uri, _PREFIX, map_parts)
        finally:
            _keep_lists(store, output)
        plans = tuple(plan_arm(arm, config.training, corpus.usable, config.seed) for arm in config.arms)
        yield Rehearsal(reading.taxonomy, reading.base, corpus, plans)


def _keep_lists(store: LocalStore, output: Path | None) -> None:
    """Copy the lists of rows that were made; what an earlier call left in the folder goes away."""
    if output is None:
        return
    for name in WRITTEN:
        (output / name).unlink(missing_ok=True)
    for name in (QUARANTINE, OVERLAPS):
        if store.exists(f"{_PREFIX}/{name}"):
            output.mkdir(parents=True, exist_ok=True)
            store.download_file(f"{_PREFIX}/{name}", output / name)
            print(f"written: {output}/{name}", file=sys.stderr, flush=True)


def run_mix(arguments: argparse.Namespace) -> None:
    """Print what a night would draw, and write the data card, the report and the lists of rows that are not used."""
    config, output = load_chosen_config(arguments), arguments.output
    with rehearse(config, with_workers=not arguments.without_ray, output=output) as night:
        report = build_report(night.corpus, night.plans, night.taxonomy, config.training.max_seq_len)
        card = render_card(report, title=f"Data of {config.name}", generated_for=arguments.config)
        (output / "data_card.html").write_text(card, encoding="utf-8")
        (output / "data_report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
        with (output / "dropped.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in list_dropped(night.corpus))
    print(format_mix(report))
    print(f"written: {output}/{', '.join(WRITTEN)}")


def run_show(arguments: argparse.Namespace) -> None:
    """Print one sample of an arm's training order.

    Raises:
        ConfigError: If there is no such arm or row.
    """
    config = load_chosen_config(arguments)
    name = _choose_arm(arguments.arm, config).name
    with rehearse(config, with_workers=not arguments.without_ray) as night:
        plan = next(plan for plan in night.plans if plan.name == name)
        if not 0 <= arguments.row < len(plan.positions):
            raise ConfigError(
                f"--row {arguments.row} is outside of the arm's {len(plan.positions)} samples",
                expected=f"0 to {len(plan.positions) - 1}",
            )
        strata, numbers = locate_rows(plan.plan, night.corpus.usable, plan.positions[[arguments.row]])
        share = plan.plan.shares[int(strata[0])]
        source = night.corpus.usable[share.name]
        (part,), (place,) = source.locate(numbers)
        file = source.token_files[int(part)]
        if file is None:
            raise ConfigError(f"the source {share.name!r} has no tokens")
        row = open_tokens(localise(file)).slice(int(place), 1).to_pylist()[0]
        step = int(np.searchsorted(np.cumsum(plan.step_sizes), arguments.row, side="right"))
        head = f"sample {arguments.row} of {name} (step {step + 1}): row {int(numbers[0]) + 1} of {share.stratum}"
        ids, learned = np.array(row["input_ids"], dtype=np.int32), np.array(row["learned"], dtype=bool)
        print(format_sample(head, ids, learned, night.base.tokenizer))


def run_export(arguments: argparse.Namespace) -> None:
    """Write an arm's rows and shares as the closed service takes them.

    Rows come first and stay: what keeps the shares from being written need not keep the rows.

    Raises:
        ConfigError: If there is no such arm, or its shares cannot be said in the service's words.
    """
    config, output = load_chosen_config(arguments), arguments.output
    arm = _choose_arm(arguments.arm, config)
    with rehearse(config, with_workers=not arguments.without_ray) as night:
        plan = next(plan for plan in night.plans if plan.name == arm.name)
        usable = night.corpus.usable
        files = export_rows(plan, usable, config.prompt.variant, night.taxonomy, output)
        print(describe_export(files), flush=True)
        block = make_block(arm, plan, usable, arguments.dataset_catalog)
    (output / BLOCK_FILE).write_text(json.dumps({"data_mixing": block}, indent=1) + "\n", encoding="utf-8")
    print(f"{BLOCK_FILE}: {block['sources']}")
    print(f"written: {output}")


def _choose_arm(name: str | None, config: NightforgeConfig) -> ArmConfig:
    """Return the named arm, or the first."""
    for arm in config.arms:
        if name in (None, arm.name):
            return arm
    known = ", ".join(arm.name for arm in config.arms)
    raise ConfigError(f"there is no arm {name!r}" if name else "there is no arm", expected=known or "an arm")
