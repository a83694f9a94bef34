"""The training loop: pure torch, the same in one process, under torchrun and under Ray Train.

One optimizer step is one slice of the mixture's order, made by `training.step`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel

from corpus.samples import Sample
from training.batches import Batch, Document, build_batch, plan_packed_passes, plan_passes
from training.checkpoint import Checkpoints
from training.export import export_model
from training.job import TrainingJob
from training.metrics import StepFigures
from training.model import load_model
from training.optim import build_optimizers, learning_rate_ratio, set_learning_rates
from training.process_group import Ranks, join_ranks
from training.routing import describe_routing, get_routing
from training.startup import StartupClock
from training.step import compute_gradients, reduce_figures, update
from training.tracking import track
from voc.config_training import TrainingConfig
from voc.errors import TrainingError

Report = Callable[[StepFigures], None]


@dataclass(frozen=True, slots=True)
class StepWork:
    """What this rank computes in one step.

    Attributes:
        passes: Forward passes, equally many on every rank.
        tokens: Tokens of the step's samples, on all ranks.
        num_targets: Learned tokens, on all ranks.
        slots: Tokens that are computed on all ranks, padding included.
    """

    passes: list[Batch]
    tokens: int
    num_targets: int
    slots: int


def train(job: TrainingJob, report: Report | None = None, clock: StartupClock | None = None) -> None:
    """Train one arm from its newest checkpoint to its last step, export the model, commit what training leaves.

    Args:
        job: The arm's job; every rank opens its own.
        report: Called on every rank after each checkpoint and at the end, with the newest figures.
        clock: The marks of this start so far; without it the start of this process is the first.

    Raises:
        TrainingError: If the loss stops being a number.
        IntegrityError: If the exported model is not the trained one.
    """
    clock = clock or StartupClock()
    training = job.training
    use_gpu = training.gpus_per_worker > 0
    if not use_gpu:
        torch.set_num_threads(training.cpus_per_worker)
    with join_ranks(use_gpu=use_gpu) as ranks:
        start = time.monotonic()
        clock.mark("join_ranks")
        model = load_model(job.base.folder, training, ranks)
        optimizers = build_optimizers(model, training.optimizer)
        clock.mark("load_model")
        checkpoints = Checkpoints(job, ranks)
        done, metrics = checkpoints.load_newest(model, optimizers)
        clock.mark("find_checkpoint")
        log = ProgressLog(job, ranks, done)
        log.print_start(model, time.monotonic() - start)
        with track(job, ranks, metrics) as tracking:
            for step in range(done, training.max_steps):
                figures = run_step(job, ranks, model, optimizers, step)
                if step == done:
                    clock.finish(job, ranks, step)
                metrics.append(figures)
                log.add(figures)
                tracking.add(figures)
                finished = step + 1
                if finished % training.checkpoint.every_steps == 0 or finished == training.max_steps:
                    checkpoints.save(finished, model, optimizers, metrics)
                    tracking.flush()
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
    loss_sum = compute_gradients(
        model,
        [batch.to(ranks.device) for batch in work.passes],
        num_targets=work.num_targets,
        num_tokens=work.tokens,
        world_size=ranks.world_size,
        syncs_every_pass=config.gradient_sync == "every_pass",
    )
    totals = reduce_figures(model, loss_sum, work.num_targets)
    _check_finite(job, step, totals.loss, totals.grad_norm)
    ratio = learning_rate_ratio(step, config.max_steps, config.optimizer)
    set_learning_rates(optimizers, ratio)
    update(model, optimizers, totals.grad_norm, config.optimizer.max_grad_norm)
    wall_s = time.monotonic() - start
    return {
        "step": step + 1,
        "loss": totals.loss,
        "learning_rate": ratio * config.optimizer.learning_rate,
        "grad_norm": totals.grad_norm,
        "tokens": work.tokens,
        "labelled_tokens": work.num_targets,
        "padding_ratio": round(1 - work.tokens / work.slots, 4),
        "wall_s": round(wall_s, 4),
        "tokens_per_s": round(work.tokens / wall_s, 1),
        **describe_routing(totals.routing),
        **_take_expert_tokens(model, config, step + 1),
    }


def lay_out_step(job: TrainingJob, ranks: Ranks, samples: list[Sample]) -> StepWork:
    """Turn the samples of a step into this rank's forward passes."""
    training, tokenizer = job.training, job.base.tokenizer
    documents = [Document(sample.input_ids, sample.labels) for sample in samples]
    lengths = [len(document) for document in documents]
    pass_tokens = training.micro_batch_size * training.max_seq_len
    if training.batch_unit == "rows":
        plan = plan_packed_passes([sample.row for sample in samples], ranks.world_size, training.micro_batch_size)
    else:
        plan = plan_passes(lengths, ranks.world_size, pass_tokens)
    pad_id = int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
    # A compiled layer is compiled again for every new shape.
    shape = {"padded_length": pass_tokens, "longest": training.max_seq_len} if training.compile == "layers" else {}
    passes = [build_batch([documents[i] for i in part], pad_id=pad_id, **shape) for part in plan[ranks.rank]]
    tokens, slots = sum(lengths), sum(pass_tokens * len(parts) for parts in plan)
    return StepWork(passes, tokens, sum(d.num_targets for d in documents), slots if shape else tokens)


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


def _take_expert_tokens(model: PreTrainedModel, training: TrainingConfig, finished: int) -> StepFigures:
    """Return the histogram of the interval that a step ends, so that it is in the checkpoint with the other figures."""
    routing = get_routing(model)
    if routing is None or (finished % training.checkpoint.every_steps and finished != training.max_steps):
        return {}
    return {"expert_tokens": routing.take_histogram(finished)}


def _check_finite(job: TrainingJob, step: int, loss: float, grad_norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        raise TrainingError(
            f"arm {job.arm!r}: loss {loss} and gradient norm {grad_norm} in step {step + 1}",
            expected="finite numbers",
            remedy="lower training.optimizer.learning_rate or lengthen warmup_steps; `python -m training show` prints "
            "the samples",
        )
