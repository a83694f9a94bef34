"""The peers of `vs_trl`: TRL's `SFTTrainer` with packing, and Hugging Face's `Trainer` with padding.

    python -m benchmarks.train.peer --side trl --base DIR --rows DIR --output DIR

`trl` packs the samples itself (its default, `bfd`) and draws the packed rows at random; `trl_same_rows` takes our packed rows in
our order, so that its losses can be compared with ours step by step; `padded` draws samples at random and pads each batch to
its longest; `padded_grouped` draws samples of like length together. The last line of its output is one JSON object. TRL
comes from a folder of its own (`requirements-data.lock`); the call needs its path in PYTHONPATH.

Source: TRL's SFTTrainer documentation, sections "Packing" and "Tokenized dataset"; transformers' `Trainer`.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import load_from_disk
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.train.side import PEER_ROWS, PEER_SAMPLES, PEER_SIDES, Recipe, StepClock, read_recipe, split_samples

IGNORE_INDEX = -100


class StepCounter:
    """Counts what a trainer trains on; its collator would not do, because batches are made ahead."""

    def __init__(self, trainer: Trainer) -> None:
        self.tokens = self.learned = self.slots = 0
        self._train = trainer.training_step
        trainer.training_step = self._count  # type: ignore[method-assign,assignment]

    def _count(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *more: Any) -> torch.Tensor:
        slots = inputs["input_ids"].numel()
        self.tokens += int(inputs["attention_mask"].sum()) if "attention_mask" in inputs else slots
        self.learned += int((inputs["labels"] != IGNORE_INDEX).sum())
        self.slots += slots
        loss: torch.Tensor = self._train(model, inputs, *more)
        return loss


class ClockCallback(TrainerCallback):
    """Ends a step of the clock where the trainer logs it: after its update and its loss."""

    def __init__(self, clock: StepClock, counter: StepCounter) -> None:
        self._clock = clock
        self._counter = counter

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Begin the first step."""
        self._clock.start()

    def on_log(self, *_: Any, **values: Any) -> None:
        """Note the step, and count the next one from 0."""
        logs = values["logs"]
        if "loss" not in logs:  # the summary at the end
            return
        counted = self._counter
        self._clock.end_step(loss=logs["loss"], tokens=counted.tokens, learned=counted.learned, slots=counted.slots)
        counted.tokens = counted.learned = counted.slots = 0


def make_arguments(recipe: Recipe, output: Path) -> dict[str, Any]:
    """Return the settings of all peers' trainers: the recipe, and nothing beside training."""
    training = recipe["training"]
    optimizer = training["optimizer"]
    return {
        "output_dir": str(output),
        "max_steps": training["max_steps"],
        "optim": "adamw_torch_fused",
        "learning_rate": optimizer["learning_rate"],
        "lr_scheduler_type": "constant",
        "adam_beta1": optimizer["beta1"],
        "adam_beta2": optimizer["beta2"],
        "weight_decay": optimizer["weight_decay"],
        "max_grad_norm": optimizer["max_grad_norm"],
        "bf16": training["param_dtype"] == "bfloat16",
        "gradient_checkpointing": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def build_trl(recipe: Recipe, base: Path, rows: Path, output: Path, *, same_rows: bool, attention: str) -> Trainer:
    """Return an SFTTrainer that packs.

    Its rows of a step are micro batches of one row: it would lay several end to end and attend over all of them at once.
    """
    from trl import SFTConfig, SFTTrainer

    training = recipe["training"]
    special = {"dataset_kwargs": {"skip_prepare_dataset": True}, "train_sampling_strategy": "sequential"}
    config = SFTConfig(
        **make_arguments(recipe, output),
        **(special if same_rows else {}),
        max_length=training["max_seq_len"],
        packing=True,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=training["global_batch_size"],
        model_init_kwargs={"dtype": "float32", "attn_implementation": attention},
    )
    return SFTTrainer(
        str(base),
        config,
        train_dataset=load_from_disk(rows / (PEER_ROWS if same_rows else PEER_SAMPLES)),
        processing_class=AutoTokenizer.from_pretrained(base),
    )


def build_padded(recipe: Recipe, base: Path, rows: Path, output: Path, *, grouped: bool, attention: str) -> Trainer:
    """Return a Trainer that pads, with as many samples in a step as our rows hold on average."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    micro_batch, accumulation = split_samples(recipe["samples_per_step"])
    config = TrainingArguments(
        **make_arguments(recipe, output),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        train_sampling_strategy="group_by_length" if grouped else "random",
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32", attn_implementation=attention)
    collator = DataCollatorForSeq2Seq(tokenizer)
    return Trainer(model, config, data_collator=collator, train_dataset=load_from_disk(rows / PEER_SAMPLES))


def measure_isolation(trainer: Any) -> dict[str, float]:
    """Compare the loss of a packed row with that of its documents alone: do documents see each other?

    Returns:
        Loss sums of the row (`packed`) and of its documents (`alone`), and of the row as one document (`crossed`).
    """
    row = trainer.train_dataset[0]
    collator = trainer.data_collator
    ends = torch.tensor([0, *row["seq_lengths"]]).cumsum(0).tolist()
    parts = [
        {name: row[name][start:end] for name in ("input_ids", "labels")} | {"seq_lengths": [end - start]}
        for start, end in pairwise(ends)
    ]
    joined = {**row, "seq_lengths": [ends[-1]]}

    def compute(example: dict[str, Any]) -> float:
        inputs = {**collator([example]), "use_cache": False}
        with torch.no_grad():
            log_probs = trainer.model(**inputs, fused_lm_head=True).log_probs
        return -float(log_probs.sum())

    trainer.model.eval()
    return {"packed": compute(row), "alone": sum(map(compute, parts)), "crossed": compute(joined)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", choices=PEER_SIDES, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--attention", choices=("sdpa", "eager"), default="sdpa")
    arguments = parser.parse_args()
    packs = arguments.side.startswith("trl")
    if packs:
        import trl  # noqa: F401  # what it holds is part of the level before the model
    clock = StepClock()
    datasets.disable_progress_bars()
    recipe = read_recipe(arguments.rows)
    torch.set_num_threads(recipe["training"]["cpus_per_worker"])
    places = (recipe, arguments.base, arguments.rows, arguments.output)
    trainer: Any
    if packs:
        same_rows = arguments.side == "trl_same_rows"
        trainer = build_trl(*places, same_rows=same_rows, attention=arguments.attention)
    else:
        grouped = arguments.side == "padded_grouped"
        trainer = build_padded(*places, grouped=grouped, attention=arguments.attention)
    trainer.add_callback(ClockCallback(clock, StepCounter(trainer)))
    trainer.train()
    figures = clock.to_json()
    isolation = {"isolation": measure_isolation(trainer)} if packs else {}
    print(json.dumps({**figures, "rows": len(trainer.train_dataset), **isolation}), flush=True)


if __name__ == "__main__":
    main()
