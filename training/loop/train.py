"""The training loop: pure torch, the same in one process, under torchrun and under Ray Train.

One optimizer step is one slice of the mixture's order, made by `training.engine.step`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel

from corpus.mixing.samples import Sample
from training.checkpointing.checkpoint import Checkpoints
from training.engine.batches import Batch, Document, build_batch, plan_packed_passes, plan_passes
from training.engine.model import load_model
from training.engine.optim import build_optimizers, learning_rate_ratio, set_learning_rates, split_parameters
from training.engine.process_group import Ranks, join_ranks
from training.engine.routing import describe_routing, get_routing
from training.engine.step import compute_gradients, discard, reduce_figures, update
from training.export.export import export_model
from training.job import TrainingJob
from training.loop.ending import Ending
from training.loop.guard import StepGuard
from training.loop.preemption import NOTICE, Agreement
from training.loop.tracking import track
from training.loop.validation import Validation
from training.metrics import StepFigures
from training.start.startup import StartupClock
from voc.errors import PreemptedError
from voc.memory.parts import measure_precision

Report = Callable[[StepFigures], None]


@dataclass(frozen=True, slots=True)
class StepWork:
    """What this rank computes in one step.

    Attributes:
        passes: Forward passes, equally many on every rank.
        tokens: Tokens of the step's samples, on all ranks.
        num_targets: Learned tokens, on all ranks.
        slots: Places of the passes of all ranks, padding included, as if nothing were shared.
    """

    passes: list[Batch]
    tokens: int
    num_targets: int
    slots: int


def train(
    job: TrainingJob,
    report: Report | None = None,
    clock: StartupClock | None = None,
    *,
    resume_from: str | None = None,
) -> None:
    """Train one arm from its newest checkpoint to its last step, export the model, commit what training leaves.

    Args:
        job: The arm's job; every rank opens its own.
        report: Called on every rank after each evaluation, after each checkpoint and at the end, with the newest figures.
        clock: The marks of this start so far; without it the start of this process is the first.
        resume_from: Key or URI of the checkpoint to begin with, in place of the arm's newest one or the base.

    Raises:
        CheckpointError: If no checkpoint can be continued though there are some, or one could not be written.
        PreemptedError: If the machine is taken away; the checkpoint is written.
        TrainingError: If the loss stops being a number, or `training.guard` ends the training.
        IntegrityError: If the exported model is not the trained one.
    """
    clock = clock or StartupClock()
    training = job.training
    use_gpu = training.gpus_per_worker > 0
    if not use_gpu:
        torch.set_num_threads(training.cpus_per_worker)
    with join_ranks(use_gpu=use_gpu) as ranks:
        clock.mark("join_ranks")
        model = load_model(job.base.folder, training, ranks)
        optimizers = build_optimizers(model, training.optimizer)
        clock.mark("load_model")
        checkpoints = Checkpoints(job, ranks, resume_from)
        metrics = run_steps(job, ranks, model, optimizers, checkpoints=checkpoints, report=report, clock=clock)
        export_model(job, ranks, model, metrics)


def run_steps(
    job: TrainingJob,
    ranks: Ranks,
    model: PreTrainedModel,
    optimizers: list[Optimizer],
    *,
    checkpoints: Checkpoints,
    report: Report | None,
    clock: StartupClock,
) -> list[StepFigures]:
    """Make the steps from the newest checkpoint to the end of the training and return the figures of all of them."""
    training = job.training
    first, metrics = checkpoints.load_newest(model, optimizers)
    clock.mark("find_checkpoint")
    validation, guard = Validation(job, ranks), StepGuard(job, ranks, metrics)
    ending, agreement = Ending(training, ranks, metrics), Agreement()
    done = first
    log = ProgressLog(job, ranks, first)
    log.print_start(model)
    if not metrics and validation.is_due(0):
        metrics.append({"step": 0, **validation.measure(model, 0)})
        log.print_losses(metrics[0])
        clock.mark("evaluate_base")
    with (
        track(job, ranks, metrics) as tracking,
        checkpoints,
        NOTICE.watch(training.checkpoint.preemption_grace_s),
    ):
        while not ending.is_reached:
            figures = run_step(job, ranks, model, optimizers, guard=guard, step=done)
            if done == first:
                clock.finish(job, ranks, done)
            done = figures["step"]
            metrics.append(figures)
            is_preempted, has_failed = agreement.any_rank([NOTICE.reason is not None, checkpoints.has_failed])
            if has_failed:
                checkpoints.raise_failure()
            stopped_by = ending.check_limits(figures)
            if stopped_by or validation.is_due(done):
                figures |= validation.measure(model, done)
                stopped_by = stopped_by or ending.check_losses()
            if stopped_by:
                figures["stopped_by"] = stopped_by
            saves = bool(stopped_by) or is_preempted or done % training.checkpoint.every_steps == 0
            if saves:
                figures |= take_expert_tokens(model, done)
                score = figures.get("validation", {}).get("loss")
                blocked_s = checkpoints.save(done, model, optimizers, metrics, score)
                figures["checkpoint_blocked_s"] = round(blocked_s, 4)
            log.add(figures)
            tracking.add(figures)
            if is_preempted:
                checkpoints.wait()
                raise explain_preemption(job, done)
            if saves:
                tracking.flush()
            if report is not None and (saves or "validation" in figures):
                report(figures)
    return metrics


def run_step(
    job: TrainingJob,
    ranks: Ranks,
    model: PreTrainedModel,
    optimizers: list[Optimizer],
    *,
    guard: StepGuard,
    step: int,
) -> StepFigures:
    """Make one optimizer step (from 0), unless the guard skips it, and return its figures, equal on all ranks.

    Raises:
        TrainingError: If loss or gradient norm is not finite, or the guard ends the training.
    """
    start = time.monotonic()
    config = job.training
    torch.manual_seed((job.config.seed * config.max_steps + step) * ranks.world_size + ranks.rank)
    samples = job.samples.read_step(step)
    work = lay_out_step(job, ranks, samples)
    loss_sum = compute_gradients(
        model,
        [batch.to(ranks.device) for batch in work.passes],
        num_targets=work.num_targets,
        num_tokens=work.tokens,
        world_size=ranks.world_size,
        syncs_every_pass=config.gradient_sync == "every_pass",
    )
    totals = reduce_figures(model, work.passes, loss_sum, work.num_targets)
    verdict = guard.check(step, samples, totals.loss, totals.grad_norm)
    ratio = learning_rate_ratio(step, config.max_steps, config.optimizer)
    if "skipped" in verdict:
        discard(optimizers)
    else:
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
        "shared_ratio": round(1 - totals.computed_tokens / work.tokens, 4),
        "wall_s": round(wall_s, 4),
        "tokens_per_s": round(work.tokens / wall_s, 1),
        **describe_routing(totals.routing),
        **verdict,
    }


def explain_preemption(job: TrainingJob, step: int) -> PreemptedError:
    """Return the error of a training that was given notice and has saved a step."""
    return PreemptedError(
        f"arm {job.arm!r} stopped after step {step}: {NOTICE.reason or 'another rank was given notice'}",
        expected=f"{job.training.max_steps} steps",
        remedy=f"run the same stage again: it continues from the checkpoint of step {step}, which is written",
    )


def lay_out_step(job: TrainingJob, ranks: Ranks, samples: list[Sample]) -> StepWork:
    """Turn the samples of a step into this rank's forward passes."""
    training = job.training
    documents = [Document(sample.input_ids, sample.labels) for sample in samples]
    lengths = [len(document) for document in documents]
    if training.batch_unit == "rows":
        plan = plan_packed_passes([sample.row for sample in samples], ranks.world_size, training.micro_batch_size)
    else:
        plan = plan_passes(lengths, ranks.world_size, training.micro_batch_size * training.max_seq_len)
    options = job.batch_options
    passes = [build_batch([documents[i] for i in part], **options) for part in plan[ranks.rank]]
    tokens = sum(lengths)
    slots = options["padded_length"] * sum(len(parts) for parts in plan) if "padded_length" in options else tokens
    return StepWork(passes, tokens, sum(d.num_targets for d in documents), slots)


class ProgressLog:
    """Prints a line every `log_every_steps` on the first rank."""

    def __init__(self, job: TrainingJob, ranks: Ranks, done: int) -> None:
        self._arm = job.arm
        self._training = job.training
        self._ranks = ranks
        self._done = done
        self._start = self._last = time.monotonic()
        self._tokens = 0

    def print_start(self, model: PreTrainedModel) -> None:
        """Say what is about to be trained."""
        parameters = sum(parameter.numel() for parameter in model.parameters())
        matrices, rest = ([tuple(p.shape) for p in part] for part in split_parameters(model))
        precision = measure_precision(
            matrices, rest, optimizer=self._training.optimizer.name, master_dtype=self._training.master_dtype
        )
        self._print(
            f"{self._arm}: {parameters / 1e6:.2f} M parameters on {self._ranks.world_size} ranks "
            f"({self._ranks.device.type}, {self._training.param_dtype}); "
            f"steps {self._done} to {self._training.max_steps}; {precision}"
        )

    def add(self, figures: StepFigures) -> None:
        """Count a step."""
        self._tokens += int(figures["tokens"])
        step = int(figures["step"])
        if step % self._training.log_every_steps == 0 or "stopped_by" in figures:
            self._print_progress(step, figures)
        if "validation" in figures:
            self.print_losses(figures)
        if figures.get("stopped_by", "max_steps") != "max_steps":
            self._print(f"{self._arm}: ends after step {step} of {self._training.max_steps}: {figures['stopped_by']}")

    def print_losses(self, figures: StepFigures) -> None:
        """Say what held-out rows lose."""
        losses = figures["validation"]
        parts = ", ".join(f"{name} {loss:.4f}" for name, loss in losses["strata"].items())
        self._print(
            f"{self._arm}: held-out loss after step {figures['step']}: {losses['loss']:.4f} ({parts}), "
            f"{figures['validation_s']:.1f} s"
        )

    def _print_progress(self, step: int, figures: StepFigures) -> None:
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


def take_expert_tokens(model: PreTrainedModel, finished: int) -> StepFigures:
    """Return the histogram of the interval that a step ends, so that it is in the checkpoint with the other figures."""
    routing = get_routing(model)
    return {} if routing is None else {"expert_tokens": routing.take_histogram(finished)}
