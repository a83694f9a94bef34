"""Pretrain the tiny base model from scratch: plain torch, a few minutes on two CPU threads.

Documents are drawn in pools, sorted by length inside a pool and cut into batches, so that little is padded. Matrices are
updated by Muon, embeddings and norms by AdamW. Operations this small gain nothing from torch's own threads
(docs/measurements.md), so a batch is cut instead: each thread takes a part of it through its own copy of the model.

Source: Muon, https://kellerjordan.github.io/posts/muon/; warm-up, stable, decay schedule, arXiv:2404.06395.
"""

from __future__ import annotations

import copy
import ctypes
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from demo.corpus import CorpusWriter, Document
from demo.recipe import Recipe
from demo.world import World
from training.engine.optim import Muon
from voc.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

POOL_BATCHES = 8
MUON_LEARNING_RATE = 0.02
ADAMW_LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.01
WARMUP_STEPS = 50
FINAL_RATIO = 0.02
MAX_GRAD_NORM = 1.0
EMBEDDING_STD = 0.1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

# Token ids, and the weight of predicting each of them from those before it; both of shape (rows, tokens).
Batch = tuple[torch.Tensor, torch.Tensor]


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """Return an untrained Qwen3 of about half a million parameters, float32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=4096,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=EMBEDDING_STD)
    model.generation_config.do_sample = False
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    return model


def pretrain(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, world: World, recipe: Recipe) -> None:
    """Train in place for `recipe.pretrain_steps` steps, printing loss, tokens/s and the time left."""
    torch.set_num_threads(1)
    keep_freed_memory()
    writer = CorpusWriter(world, world.facts, random.Random(f"{recipe.seed}/pretrain"))
    rng = random.Random(f"{recipe.seed}/batches")
    batches = draw_batches(writer.write_documents(), tokenizer, recipe.pretrain_batch_size, rng)
    optimizers = build_optimizers(model, MUON_LEARNING_RATE, ADAMW_LEARNING_RATE, WEIGHT_DECAY)
    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.pretrain_steps))
        for optimizer in optimizers
    ]
    progress = Progress("pretrain", recipe.pretrain_steps, "steps")
    tokens, mean_loss, started = 0, 0.0, time.monotonic()
    model.train()
    gradients = BatchGradients(model, recipe.threads)
    for step, (ids, weights) in enumerate(islice(batches, recipe.pretrain_steps)):
        loss = gradients.compute(ids, weights)
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
        tokens += ids.numel()
        mean_loss = loss if step == 0 else 0.98 * mean_loss + 0.02 * loss
        progress.advance(loss=f"{mean_loss:.4f}", tokens_per_s=f"{tokens / (time.monotonic() - started):.0f}")
    progress.finish(loss=f"{mean_loss:.4f}", tokens_per_s=f"{tokens / (time.monotonic() - started):.0f}")
    model.eval()


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory: fresh pages for every activation cost a third of a step (no effect elsewhere)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def build_optimizers(
    model: torch.nn.Module, muon_learning_rate: float, adamw_learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers and AdamW for embeddings and norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    return [
        Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay),
        torch.optim.AdamW(rest, lr=adamw_learning_rate, betas=(0.9, 0.98), weight_decay=weight_decay),
    ]


class BatchGradients:
    """Computes the gradients of one batch in several threads.

    Args:
        model: Receives the gradients.
        threads: Parts of a batch, one thread each; every thread but the first has a copy that shares the parameters.
    """

    def __init__(self, model: Qwen3ForCausalLM, threads: int) -> None:
        self._models = [model, *(copy.deepcopy(model) for _ in range(threads - 1))]
        for copied in self._models[1:]:
            for parameter, shared in zip(copied.parameters(), model.parameters(), strict=True):
                parameter.data = shared.data
        self._pool = ThreadPoolExecutor(threads)

    def compute(self, ids: torch.Tensor, weights: torch.Tensor) -> float:
        """Set the gradients of the weighted mean loss over the whole batch and return that loss."""
        total, count = weights[:, 1:].sum(), len(self._models)
        parts = [
            self._pool.submit(_backward, model, ids[part::count], weights[part::count], total)
            for part, model in enumerate(self._models[: len(ids)])
        ]
        loss = sum(part.result() for part in parts)
        for copied in self._models[1:]:
            for parameter, partial in zip(self._models[0].parameters(), copied.parameters(), strict=True):
                if parameter.grad is not None and partial.grad is not None:
                    parameter.grad += partial.grad
                partial.grad = None
        return loss


def _backward(model: Qwen3ForCausalLM, ids: torch.Tensor, weights: torch.Tensor, total: torch.Tensor) -> float:
    loss = compute_loss_sum(model, ids, weights) / total
    loss.backward()
    return loss.item()


def compute_loss_sum(model: Qwen3ForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum of the cross-entropy of the labelled tokens.

    Rows are padded on the right and attention is causal, so no mask is needed; logits are made at labelled places only.
    """
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    labelled = weights[:, 1:] > 0
    logits = model.lm_head(hidden[:, :-1][labelled])
    losses = functional.cross_entropy(logits, ids[:, 1:][labelled], reduction="none")
    return (losses * weights[:, 1:][labelled]).sum()


def encode_document(tokenizer: PreTrainedTokenizerFast, document: Document) -> tuple[list[int], list[float]]:
    """Return token ids and their loss weights; pieces begin where a word begins, so joining changes no token."""
    ids: list[int] = []
    weights: list[float] = []
    encoded = tokenizer.backend_tokenizer.encode_batch([p.text for p in document], add_special_tokens=False)
    for piece, encoding in zip(document, encoded, strict=True):
        ids += encoding.ids
        weights += [piece.weight] * len(encoding.ids)
    return ids, weights


def draw_batches(
    documents: Iterator[Document], tokenizer: PreTrainedTokenizerFast, batch_size: int, rng: random.Random
) -> Iterator[Batch]:
    """Give batches of documents of about one length, without end."""
    while True:
        pool = [encode_document(tokenizer, document) for document in islice(documents, batch_size * POOL_BATCHES)]
        pool.sort(key=lambda row: len(row[0]))
        starts = list(range(0, len(pool), batch_size))
        rng.shuffle(starts)
        for start in starts:
            yield _pad(pool[start : start + batch_size], tokenizer.pad_token_id)


def _pad(rows: list[tuple[list[int], list[float]]], pad_id: int) -> Batch:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [pad_id] * (width - len(ids)) for ids, _ in rows])
    weights = torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in rows])
    return ids, weights


def _rate(step: int, total: int) -> float:
    """Return the share of the peak rate: warm up, stay flat to half, fall linearly to 2 %."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    half = total / 2
    return warm * (1.0 if step < half else 1.0 - (1.0 - FINAL_RATIO) * (step - half) / max(total - half, 1))
