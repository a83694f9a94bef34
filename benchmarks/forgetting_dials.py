"""Fine-tune the demo's base model with chosen dials and print what it learned and what it lost, in minutes.

    python -m benchmarks.forgetting_dials --world .nightforge/demo --seeds 0 1 2 --steps 400 600

It follows `training/` (a step is `global_batch_size` samples of the planned mixture, the loss is the mean over the step's
learned tokens, linear warm-up and decay) without Ray, checkpoints and packing, and scores with plain transformers: for
choosing dials, not for reporting a run. Writes one JSON line per model.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from corpus.order import TrainingOrder
from demo.corpus import END_OF_TEXT, IM_END
from demo.pretrain import build_optimizers, keep_freed_memory
from voc.config.arms import SourceWeight
from voc.labels.taxonomy import Taxonomy, parse_taxonomy
from voc.mixture import Stratum, plan_mixture
from voc.progress import Progress
from voc.prompts import (
    MMLU_CLOSING_SENTENCE,
    MMLU_LETTERS,
    render_answer,
    render_messages,
    render_mmlu_generative,
    render_mmlu_log_likelihood,
)
from voc.records.acceptance import read_general_rows, read_voc_rows
from voc.records.records import GeneralRecord, VocRecord
from voc.responses import looks_like_voc, parse_response

Sample = tuple[list[int], list[bool]]  # token ids, and whether each one is learned
EVALUATION_BATCH_SIZE = 160
WARMUP_STEPS = 20
FINAL_RATIO = 0.1


@dataclass(frozen=True)
class World:
    """What `python -m demo make` wrote, read back."""

    taxonomy: Taxonomy
    train: tuple[VocRecord, ...]
    test: tuple[VocRecord, ...]
    general: tuple[GeneralRecord, ...]
    questions: pd.DataFrame
    base: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def read_world(folder: Path) -> World:
    data = folder / "data"
    taxonomy = parse_taxonomy((data / "taxonomy.csv").read_text(), "taxonomy.csv")
    return World(
        taxonomy,
        read_voc_rows((data / "train.jsonl").read_bytes(), taxonomy).rows,
        read_voc_rows((data / "test.jsonl").read_bytes(), taxonomy).rows,
        read_general_rows((data / "general.jsonl").read_bytes()).rows,
        pd.read_parquet(folder / "mmlu" / "test.parquet"),
        AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder / "base", padding_side="left"),
    )


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Any]) -> Sample:
    *context, answer = messages
    return encode(tokenizer, render_prompt(tokenizer, context), f"{answer['content']}{IM_END}")


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Any]) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> Sample:
    head = tokenizer.encode(prompt, add_special_tokens=False)
    tail = tokenizer.encode(completion, add_special_tokens=False)
    return head + tail, [False] * len(head) + [True] * len(tail)


def encode_sources(world: World) -> dict[str, list[Sample]]:
    customer = []
    for record in world.train:
        messages = render_messages(record.comment, "internalized", world.taxonomy)
        customer.append(
            encode_chat(world.tokenizer, [*messages, {"role": "assistant", "content": render_answer(record.segments)}])
        )
    general = [
        encode_chat(world.tokenizer, row.messages)
        if row.messages
        else encode(world.tokenizer, row.prompt, f"{row.completion}{END_OF_TEXT}")
        for row in world.general
    ]
    return {"customer": customer, "general": general}


def fine_tune(world: World, samples: dict[str, list[Sample]], weights: dict[str, float], dials: dict[str, Any]) -> Any:
    """Return a tuned copy of the base model."""
    steps, batch = dials["steps"], dials["batch"]
    num_rows = {Stratum(name): len(rows) for name, rows in samples.items()}
    sources = [SourceWeight(name=name, weight=weight) for name, weight in weights.items()]
    plan = plan_mixture(num_rows, sources, num_samples=steps * batch, seed=dials["seed"])
    names = [share.name for share in plan.shares]
    strata, places = TrainingOrder(plan).locate(0, plan.num_samples)
    drawn = [samples[names[stratum]][row] for stratum, row in zip(strata.tolist(), places.tolist(), strict=True)]
    model = copy.deepcopy(world.base).train()
    optimizers = (
        build_optimizers(model, dials["muon"], dials["adamw"], 0.0)
        if dials["muon"]
        else [torch.optim.AdamW(model.parameters(), lr=dials["adamw"], betas=(0.9, 0.98), weight_decay=0.0)]
    )
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    progress = Progress("fine-tune", steps, "steps", interval_s=15)
    for step in range(steps):
        rows = drawn[step * batch : (step + 1) * batch]
        loss = _backward(model, rows, world.tokenizer.pad_token_id)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * _ratio(step, steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.advance(loss=f"{loss:.4f}")
    return model.eval()


def _backward(model: Any, rows: list[Sample], pad_id: int) -> float:
    """Add the gradient of one step's mean loss, in two length-sorted halves so that little is padded."""
    total = sum(sum(learned) for _, learned in rows)
    ordered = sorted(rows, key=lambda row: len(row[0]))
    loss_sum = 0.0
    for part in (ordered[: len(rows) // 2], ordered[len(rows) // 2 :]):
        width = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _ in part])
        learned = torch.tensor([mask + [False] * (width - len(mask)) for _, mask in part])[:, 1:]
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][learned])
        loss = functional.cross_entropy(logits, ids[:, 1:][learned], reduction="sum") / total
        loss.backward()
        loss_sum += loss.item()
    return loss_sum


def _ratio(step: int, steps: int) -> float:
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 1 + (FINAL_RATIO - 1) * (step - WARMUP_STEPS) / max(steps - 1 - WARMUP_STEPS, 1)


@torch.no_grad()
def generate(world: World, model: Any, chats: list[list[dict[str, str]]], max_tokens: int) -> list[str]:
    """Answer chats greedily, in the given order."""
    prompts = [render_prompt(world.tokenizer, chat) for chat in chats]
    answers = [""] * len(prompts)
    for part in _batches(prompts):
        encoded = world.tokenizer([prompts[i] for i in part], return_tensors="pt", padding=True)
        out = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=max_tokens,
            do_sample=False,
        )
        texts = world.tokenizer.batch_decode(out[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
        for index, text in zip(part, texts, strict=True):
            answers[index] = text
    return answers


def _batches(prompts: list[str]) -> Iterator[list[int]]:
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), EVALUATION_BATCH_SIZE):
        yield order[start : start + EVALUATION_BATCH_SIZE]


@torch.no_grad()
def pick_letters(world: World, model: Any, texts: list[str]) -> list[str]:
    """Return the likeliest of ' A' to ' D' after each text."""
    ids = [world.tokenizer.encode(f" {letter}", add_special_tokens=False)[0] for letter in MMLU_LETTERS]
    letters = [""] * len(texts)
    for part in _batches(texts):
        encoded = world.tokenizer([texts[i] for i in part], return_tensors="pt", padding=True)
        logits = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits[:, -1]
        for index, best in zip(part, logits[:, ids].argmax(-1).tolist(), strict=True):
            letters[index] = MMLU_LETTERS[best]
    return letters


def score(world: World, model: Any) -> dict[str, float]:
    """Return every figure of the demo's table, per slice where it has slices."""
    figures = score_voc(world, model)
    questions = world.questions
    gold = [MMLU_LETTERS[answer] for answer in questions.answer]
    rows = list(zip(questions.subject, questions.question, questions.choices, strict=True))
    picked = pick_letters(world, model, [render_mmlu_log_likelihood(s, q, list(c)) for s, q, c in rows])
    answers = generate(
        world, model, [[{"role": "user", "content": render_mmlu_generative(q, list(c))}] for _, q, c in rows], 48
    )
    right = {
        "log_likelihood": [p == g for p, g in zip(picked, gold, strict=True)],
        "generative": [MMLU_CLOSING_SENTENCE.format(letter=g) in a for a, g in zip(answers, gold, strict=True)],
    }
    for protocol, flags in right.items():
        series = pd.Series(flags)
        for name, part in (("A", "replayed"), ("B", "not replayed")):
            figures[f"{protocol}_{name}"] = series[questions["slice"] == part].mean()
        figures[protocol] = series.mean()
    figures["schema_leak"] = pd.Series([looks_like_voc(answer) for answer in answers]).mean()
    return {name: round(float(value), 4) for name, value in figures.items()}


def score_voc(world: World, model: Any) -> dict[str, float]:
    chats = [render_messages(record.comment, "internalized", world.taxonomy) for record in world.test]
    answers = [parse_response(text) for text in generate(world, model, chats, 256)]
    hits = predicted = expected = 0
    for record, answer in zip(world.test, answers, strict=True):
        gold = {segment.label for segment in record.segments}
        found = {segment.label for segment in answer.segments}
        hits, predicted, expected = hits + len(gold & found), predicted + len(found), expected + len(gold)
    failed = sum(answer.failure is not None for answer in answers)
    return {"voc_micro_f1": 2 * hits / (predicted + expected), "parse_failure": failed / len(answers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[400])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--muon", type=float, nargs="+", default=[0.025], help="0: AdamW on everything")
    parser.add_argument("--adamw", type=float, default=2.5e-3)
    parser.add_argument("--general", type=float, nargs="+", default=[0.0, 0.25], help="general share of each arm")
    parser.add_argument("--threads", type=int, default=1, help="more of torch's threads gain nothing at this size")
    parser.add_argument("--base", action="store_true", help="score the base model too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    world = read_world(arguments.world)
    if arguments.base:
        print(json.dumps({"model": "base", **score(world, world.base)}), flush=True)
    samples = encode_sources(world)
    for steps in arguments.steps:
        for muon in arguments.muon:
            for seed in arguments.seeds:
                for share in arguments.general:
                    dials = {"steps": steps, "muon": muon, "adamw": arguments.adamw, "batch": arguments.batch}
                    weights = {"customer": 1 - share, "general": share} if share else {"customer": 1.0}
                    started = time.monotonic()
                    model = fine_tune(world, samples, weights, {**dials, "seed": seed})
                    row = {"general": share, **dials, "seed": seed, "train_s": round(time.monotonic() - started, 1)}
                    print(json.dumps({**row, **score(world, model)}), flush=True)


if __name__ == "__main__":
    main()
