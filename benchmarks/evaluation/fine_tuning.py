"""A short fine-tuning of the demo's base model, for losses that are planted: in a minute, and in this process.

It follows `training/` (a step is a batch of samples of the planned mixture, the loss is the mean over the tokens of its
loss mask, linear warm-up and decay) without Ray, checkpoints and packing.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from corpus.mixing.order import TrainingOrder
from demo.corpus import IM_END
from demo.pretrain import build_optimizers
from voc.config.arms import SourceWeight
from voc.labels.taxonomy import Taxonomy, parse_taxonomy
from voc.mixture import Stratum, plan_mixture
from voc.progress import Progress
from voc.prompts import render_answer, render_messages
from voc.records.acceptance import read_voc_rows
from voc.records.records import VocRecord

Sample = tuple[list[int], list[bool]]  # token ids and their loss mask
WARMUP_STEPS = 20
FINAL_RATIO = 0.1


@dataclass(frozen=True)
class World:
    """What `python -m demo make` wrote, read back."""

    taxonomy: Taxonomy
    train: tuple[VocRecord, ...]
    base: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def read_world(folder: Path) -> World:
    data = folder / "data"
    taxonomy = parse_taxonomy((data / "taxonomy.csv").read_text(), "taxonomy.csv")
    return World(
        taxonomy,
        read_voc_rows((data / "train.jsonl").read_bytes(), taxonomy).rows,
        AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder / "base"),
    )


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Any]) -> Sample:
    *context, answer = messages
    prompt = str(tokenizer.apply_chat_template(context, tokenize=False, add_generation_prompt=True))
    return encode(tokenizer, prompt, f"{answer['content']}{IM_END}")


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> Sample:
    head = tokenizer.encode(prompt, add_special_tokens=False)
    tail = tokenizer.encode(completion, add_special_tokens=False)
    return head + tail, [False] * len(head) + [True] * len(tail)


def encode_comments(world: World) -> list[Sample]:
    """Return the training comments as chats that VOC JSON answers."""
    samples = []
    for record in world.train:
        messages = render_messages(record.comment, "internalized", world.taxonomy)
        answer = {"role": "assistant", "content": render_answer(record.segments)}
        samples.append(encode_chat(world.tokenizer, [*messages, answer]))
    return samples


def fine_tune(world: World, samples: dict[str, list[Sample]], weights: dict[str, float], dials: dict[str, Any]) -> Any:
    """Return a tuned copy of the base model."""
    steps, batch = dials["steps"], dials["batch"]
    num_rows = {Stratum(name): len(rows) for name, rows in samples.items()}
    sources = [SourceWeight(name=name, weight=weight) for name, weight in weights.items()]
    plan = plan_mixture(num_rows, sources, num_samples=steps * batch, seed=dials["seed"])
    names = [share.name for share in plan.shares]
    strata, numbers = TrainingOrder(plan).locate(0, plan.num_samples)
    drawn = [samples[names[stratum]][number] for stratum, number in zip(strata.tolist(), numbers.tolist(), strict=True)]
    model = copy.deepcopy(world.base).train()
    optimizers = build_optimizers(model, dials["muon"], dials["adamw"], 0.0)
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
    total = sum(sum(loss_mask) for _, loss_mask in rows)
    ordered = sorted(rows, key=lambda row: len(row[0]))
    loss_sum = 0.0
    for part in (ordered[: len(rows) // 2], ordered[len(rows) // 2 :]):
        width = max(len(ids) for ids, _ in part)
        ids = torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _ in part])
        loss_mask = torch.tensor([mask + [False] * (width - len(mask)) for _, mask in part])[:, 1:]
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][loss_mask])
        loss = functional.cross_entropy(logits, ids[:, 1:][loss_mask], reduction="sum") / total
        loss.backward()
        loss_sum += loss.item()
    return loss_sum


def _ratio(step: int, steps: int) -> float:
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 1 + (FINAL_RATIO - 1) * (step - WARMUP_STEPS) / max(steps - 1 - WARMUP_STEPS, 1)
