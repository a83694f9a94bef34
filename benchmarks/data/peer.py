"""The peer of `vs_datasets`: what one would write with Hugging Face `datasets` and TRL for the same rows.

    python -m benchmarks.data.peer --rows DIR --base DIR --output DIR

Reads JSONL with `load_dataset`, checks and renders each row with the same pure functions as ours, then lets TRL's own
`SFTTrainer._prepare_dataset` tokenise, label and pack, and saves the result. The last line of its output is one JSON
object. TRL comes from a folder of its own (`requirements-data.lock`); the call needs its path in PYTHONPATH.

Source: TRL's SFTTrainer documentation, sections "Prompt-completion" and "Packing".
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import datasets
import psutil
import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value, concatenate_datasets, load_dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer
from trl.trainer import sft_trainer

from benchmarks.study.rows import GENERAL_FILE, TAXONOMY_FILE, VOC_FILE
from voc.labels.taxonomy import LEVELS, Taxonomy, parse_taxonomy
from voc.prompts import render_answer, render_messages
from voc.records.records import RowError, parse_general_record, parse_voc_record

PACKED_FOLDER = "packed"
Batch = dict[str, list[Any]]
Chat = list[dict[str, str]]
TEXT = Value("string")
TURNS = List({"role": TEXT, "content": TEXT})
# Named, because the reader guesses types: it takes a day for a timestamp, which the check of a row refuses. Named as a
# text, it still comes back as "2026-11-24 00:00:00".
VOC_FEATURES = Features(
    {
        "id": TEXT,
        "comment": TEXT,
        "segments": List({"content": TEXT, **dict.fromkeys(LEVELS, TEXT), "emotion": TEXT}),
        "lang": TEXT,
        "source": TEXT,
        "created_at": TEXT,
    }
)
GENERAL_FEATURES = Features({"messages": TURNS, "category": TEXT})
CHECKED_FEATURES = Features({"prompt": TURNS, "completion": TURNS, "reason": TEXT})


class StageClock:
    """Seconds per named stage; what is counted only for this benchmark is kept apart."""

    def __init__(self) -> None:
        self.stages_s: dict[str, float] = {}
        self.counting_s = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        started, counted = time.monotonic(), self.counting_s
        yield
        spent_s = time.monotonic() - started - (self.counting_s - counted)
        self.stages_s[name] = self.stages_s.get(name, 0.0) + spent_s

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Leave a block out of the stage around it."""
        started = time.monotonic()
        yield
        self.counting_s += time.monotonic() - started


def load_rows(rows: Path) -> tuple[Dataset, Dataset]:
    """Return VOC and general rows; `num_proc` would change nothing, a file is read by one process."""
    voc = load_dataset("json", data_files=str(rows / VOC_FILE), features=VOC_FEATURES, split="train")
    general = load_dataset("json", data_files=str(rows / GENERAL_FILE), features=GENERAL_FEATURES, split="train")
    return voc, general


def check_rows(voc: Dataset, general: Dataset, taxonomy: Taxonomy, num_proc: int) -> tuple[Dataset, Counter[str]]:
    """Validate and render every row, leave out the refused ones, and count them by reason."""
    checks = ((voc, partial(check_voc_rows, taxonomy=taxonomy)), (general, check_general_rows))
    options = {"batched": True, "features": CHECKED_FEATURES, "num_proc": num_proc}
    rows = concatenate_datasets(
        [part.map(check, remove_columns=part.column_names, **options) for part, check in checks]
    )
    counted = pc.value_counts(rows.data.column("reason")).to_pylist()
    reasons = Counter({entry["values"]: entry["counts"] for entry in counted if entry["values"]})
    kept = rows.filter(lambda reason: not reason, input_columns="reason", num_proc=num_proc)
    return kept.remove_columns("reason"), reasons


def check_voc_rows(batch: Batch, taxonomy: Taxonomy) -> Batch:
    def render(row: dict[str, Any]) -> tuple[Chat, Chat]:
        record = parse_voc_record(row, taxonomy)
        prompt = render_messages(record.comment, "internalized", taxonomy)
        return prompt, [{"role": "assistant", "content": render_answer(record.segments)}]

    return _check_batch(batch, render)


def check_general_rows(batch: Batch) -> Batch:
    def render(row: dict[str, Any]) -> tuple[Chat, Chat]:
        turns = [dict(turn) for turn in parse_general_record(row).messages]
        return turns[:-1], turns[-1:]

    return _check_batch(batch, render)


def _check_batch(batch: Batch, render: Callable[[dict[str, Any]], tuple[Chat, Chat]]) -> Batch:
    checked: Batch = {"prompt": [], "completion": [], "reason": []}
    names = list(batch)
    for values in zip(*batch.values(), strict=True):
        try:
            prompt, completion = render(dict(zip(names, values, strict=True)))
            reason = ""
        except RowError as error:
            prompt, completion, reason = [], [], error.reason
        checked["prompt"].append(prompt)
        checked["completion"].append(completion)
        checked["reason"].append(reason)
    return checked


def prepare(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, clock: StageClock, *, seq_len: int, num_proc: int, output: Path
) -> tuple[Dataset, dict[str, int]]:
    """Let TRL tokenise, label and pack; returns the packed rows and what the packing took in.

    The method is called without a trainer, which would load the model first: it reads three of its attributes.
    """
    config = SFTConfig(
        output_dir=str(output / "trainer"),
        max_length=seq_len,
        packing=True,
        packing_strategy="bfd",
        completion_only_loss=True,
        dataset_num_proc=num_proc,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    trainer = SimpleNamespace(_tokenizer=tokenizer, completion_only_loss=True, chat_template=None)
    counts: dict[str, int] = {}
    timed = mock.patch.object(Dataset, "map", _time_maps(clock))
    counted = mock.patch.object(sft_trainer, "pack_dataset", _count_before_packing(clock, counts, seq_len))
    with timed, counted:
        packed = SFTTrainer._prepare_dataset(trainer, rows, tokenizer, config, True, None, "train")
    return packed, counts


def _time_maps(clock: StageClock) -> Callable[..., Dataset]:
    """Return `Dataset.map`, timed under the description that TRL gives each of its calls."""
    plain = Dataset.map

    def timed(self: Dataset, *arguments: Any, **options: Any) -> Dataset:
        name = options.get("desc", "map").removesuffix(" for train dataset").removesuffix(" train dataset").lower()
        with clock.stage(name):
            return plain(self, *arguments, **options)

    return timed


def _count_before_packing(clock: StageClock, counts: dict[str, int], seq_len: int) -> Callable[..., Dataset]:
    """Return TRL's packing that also counts the rows it will cut: it says nothing about them."""
    plain = sft_trainer.pack_dataset

    def counted(dataset: Dataset, *arguments: Any, **options: Any) -> Dataset:
        with clock.counting():
            lengths = pc.list_value_length(dataset.data.column("input_ids"))
            over = pc.subtract(lengths.filter(pc.greater(lengths, seq_len)), seq_len)
            counts.update(tokenized=len(lengths), cut_rows=len(over), cut_tokens=pc.sum(over).as_py() or 0)
        return plain(dataset, *arguments, **options)

    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    workers, clock = arguments.workers, StageClock()
    started = psutil.Process().create_time()
    clock.stages_s["start"] = time.time() - started
    with clock.stage("read"):
        tokenizer = AutoTokenizer.from_pretrained(arguments.base)
        taxonomy = parse_taxonomy((arguments.rows / TAXONOMY_FILE).read_text(encoding="utf-8"), TAXONOMY_FILE)
        voc, general = load_rows(arguments.rows)
    with clock.stage("validate and render"):
        rows, reasons = check_rows(voc, general, taxonomy, workers)
    packed, counts = prepare(
        rows, tokenizer, clock, seq_len=arguments.seq_len, num_proc=workers, output=arguments.output
    )
    with clock.stage("write"):
        # One process: with num_proc, datasets 5.2 spawns processes that import everything again, half a minute on 2 cores.
        packed.save_to_disk(arguments.output / PACKED_FOLDER)
    wall_s = time.time() - started - clock.counting_s
    figures = {
        "rows": len(voc) + len(general),
        "wall_s": round(wall_s, 2),
        "packed": len(packed),
        "refused": dict(sorted(reasons.items())),
        **counts,
        "stages_s": {name: round(spent_s, 2) for name, spent_s in clock.stages_s.items()},
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
