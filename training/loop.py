"""The training loop: pure torch, the same in one process, under torchrun and under Ray Train.

One optimizer step is one slice of the mixture's order. The loss of a step is the sum over its learned tokens divided by
their number on *all* ranks, so it does not depend on the number of workers or on how samples fall into rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.optim import Optimizer
from transformers import PreTrainedModel

from corpus.samples import Sample
from training.checkpoint import Checkpoints
from training.data import plan_packed_step, plan_step
from training.export import export_model
from training.job import TrainingJob
from training.metrics import StepFigures
from training.model import compute_loss_sum, load_model
from training.optim import (
    build_optimizers,
    clip_gradients,
    learning_rate_ratio,
    list_local_gradients,
    set_learning_rates,
    sum_squares,
)
from training.packing import Batch, Document, build_batch
from training.process_group import Ranks, join_ranks
from voc.errors import TrainingError

Report = Callable[[StepFigures], None]


@dataclass(frozen=True, slots=True)
class StepWork:
    """What this rank computes in one step.

    Attributes:
        batches: Forward passes, equally many on every rank.
        tokens: Tokens of the step's samples, on all ranks.
        num_targets: Learned tokens, on all ranks.
        slots: Places in the rows of all ranks, padding included.
    """

    batches: list[Batch]
    tokens: int
    num_targets: int
    slots: int


def train(job: TrainingJob, report: Report | None = None) -> None:
    """Train one arm from its newest checkpoint to its last step, export the model, commit what training leaves.

    Args:
        job: The arm's job; every rank opens its own.
        report: Called on every rank after each checkpoint and at the end, with the newest figures.

    Raises:
        TrainingError: If the loss stops being a number.
        IntegrityError: If the exported model is not the trained one.
    """
    training = job.training
    use_gpu = training.gpus_per_worker > 0
    if not use_gpu:
        torch.set_num_threads(training.cpus_per_worker)
    with join_ranks(use_gpu=use_gpu) as ranks:
        start = time.monotonic()
        model = load_model(job.base.folder, training, ranks)
        optimizers = build_optimizers(model, training.optimizer)
        checkpoints = Checkpoints(job, ranks)
        done, metrics = checkpoints.load_newest(model, optimizers)
        log = ProgressLog(job, ranks, done)
        log.print_start(model, time.monotonic() - start)
        for step in range(done, training.max_steps):
            figures = run_step(job, ranks, model, optimizers, step)
            metrics.append(figures)
            log.add(figures)
            finished = step + 1
            if finished % training.checkpoint_every_steps == 0 or finished == training.max_steps:
                checkpoints.save(finished, model, optimizers, metrics)
                if report is not None:
                    report(figures)
        export_model(job, ranks, model, metrics)


def run_step(
    job: TrainingJob, ranks: Ranks, model: PreTrainedModel, optimizers: list[Optimizer], step: int
) -> StepFigures:
    """Make one optimizer step (from 0) and return its figures, equal on all ranks.

    Raises:
        TrainingError: If loss or gradient norm is not finite.
    """
    start = time.monotonic()
    config = job.training
    torch.manual_seed((job.config.seed * config.max_steps + step) * ranks.world_size + ranks.rank)
    work = lay_out_step(job, ranks, job.samples.read_step(step))
    loss_sum = torch.zeros((), device=ranks.device)
    for batch in work.batches:
        batch_loss = compute_loss_sum(model, batch.to(ranks.device))
        # FSDP averages gradients over the ranks; the loss is a sum over all of them.
        (batch_loss * (ranks.world_size / work.num_targets)).backward()
        loss_sum += batch_loss.detach()
    gradients = list_local_gradients(model)
    totals = torch.stack([loss_sum, sum_squares(gradients)])
    dist.all_reduce(totals)
    total_loss, total_squares = totals.tolist()
    loss, grad_norm = total_loss / work.num_targets, math.sqrt(total_squares)
    _check_finite(job, step, loss, grad_norm)
    clip_gradients(gradients, grad_norm, config.optimizer.max_grad_norm)
    ratio = learning_rate_ratio(step, config.max_steps, config.optimizer)
    set_learning_rates(optimizers, ratio)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    wall_s = time.monotonic() - start
    return {
        "step": step + 1,
        "loss": loss,
        "learning_rate": ratio * config.optimizer.learning_rate,
        "grad_norm": grad_norm,
        "tokens": work.tokens,
        "labelled_tokens": work.num_targets,
        "padding_ratio": round(1 - work.tokens / work.slots, 4),
        "wall_s": round(wall_s, 4),
        "tokens_per_s": round(work.tokens / wall_s, 1),
    }


def lay_out_step(job: TrainingJob, ranks: Ranks, samples: list[Sample]) -> StepWork:
    """Turn the samples of a step into this rank's forward passes."""
    training, tokenizer = job.training, job.base.tokenizer
    documents = [Document(sample.input_ids, sample.labels) for sample in samples]
    lengths = [len(document) for document in documents]
    size = (ranks.world_size, training.max_seq_len, training.micro_batch_size)
    if training.batch_unit == "rows":
        plan = plan_packed_step([sample.row for sample in samples], *size)
    else:
        plan = plan_step(lengths, *size, is_dense_attention=ranks.device.type == "cpu")
    pad_id = int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
    batches = [
        build_batch([[documents[i] for i in row] for row in rows], plan.row_len, pad_id)
        for rows in plan.passes[ranks.rank]
    ]
    slots = sum(len(rows) for passes in plan.passes for rows in passes) * plan.row_len
    return StepWork(batches, sum(lengths), sum(document.num_targets for document in documents), slots)


class ProgressLog:
    """Prints a line every `log_every_steps` on the first rank."""

    def __init__(self, job: TrainingJob, ranks: Ranks, done: int) -> None:
        self._arm = job.arm
        self._training = job.training
        self._ranks = ranks
        self._done = done
        self._start = self._last = time.monotonic()
        self._tokens = 0

    def print_start(self, model: PreTrainedModel, load_s: float) -> None:
        """Say what is about to be trained."""
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self._print(
            f"{self._arm}: {parameters / 1e6:.2f} M parameters on {self._ranks.world_size} ranks "
            f"({self._ranks.device.type}, {self._training.param_dtype}), loaded in {load_s:.1f} s; "
            f"steps {self._done} to {self._training.max_steps}"
        )

    def add(self, figures: StepFigures) -> None:
        """Count a step."""
        self._tokens += int(figures["tokens"])
        step = int(figures["step"])
        if step % self._training.log_every_steps and step != self._training.max_steps:
            return
        now = time.monotonic()
        rate = self._tokens / max(now - self._last, 1e-9)
        eta_s = (now - self._start) / (step - self._done) * (self._training.max_steps - step)
        self._last, self._tokens = now, 0
        self._print(
            f"{self._arm}: step {step}/{self._training.max_steps}, loss {figures['loss']:.4f}, "
            f"lr {figures['learning_rate']:.2e}, grad norm {figures['grad_norm']:.2f}, "
            f"{rate:.0f} tokens/s, ETA {eta_s:.0f} s"
        )

    def _print(self, text: str) -> None:
        if self._ranks.is_first:
            print(text, flush=True)


def _check_finite(job: TrainingJob, step: int, loss: float, grad_norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise TrainingError(
            f"arm {job.arm!r}: loss {loss} and gradient norm {grad_norm} in step {step + 1}",
            expected="finite numbers",
            remedy="lower training.optimizer.learning_rate or lengthen warmup_steps; `python -m training show` prints "
            "the samples",
        )
