"""Train one arm without Ray: in this process, or as one of torchrun's ranks."""

from __future__ import annotations

import gc
import os

import torch

from training.export.vllm_smoke import ask_vllm, complete_card, has_draft
from training.job import TrainingJob
from training.loop.train import train
from training.start.startup import StartupClock


def train_here(job: TrainingJob, clock: StartupClock, resume_from: str | None = None) -> None:
    """Train an arm, unless only vLLM is still to be asked; then the first rank asks it.

    Raises:
        VocError: As `training.loop.train.train` and `training.export.vllm_smoke.complete_card`.
    """
    if not has_draft(job):
        train(job, clock=clock, resume_from=resume_from)
    if job.training.export.vllm_smoke and os.environ.get("RANK", "0") == "0":
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # the engine takes a share of the whole device
        complete_card(job, ask_vllm)
