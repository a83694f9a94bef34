"""The settings that a memory plan depends on, taken from a training section.

It needs nothing but their names, so that a benchmark without the configuration's packages can plan too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetup:
    """What a plan depends on besides the model: names and values are those of the configuration's training section.

    Attributes:
        device: `cuda` or `cpu`.
        num_workers: Ranks that the model is sharded over.
        accumulates: Whether a rank may take more than one forward pass in a step.
    """

    device: str
    num_workers: int
    accumulates: bool
    micro_batch_size: int
    max_seq_len: int
    param_dtype: str
    master_dtype: str
    activation_checkpointing: str
    gradient_sync: str
    loss_kernel: str
    loss_chunk_tokens: int
    optimizer: str
    experts_implementation: str = "grouped_mm"
    experts_parallel_size: int = 1

    @property
    def tokens(self) -> int:
        """Tokens of the longest forward pass."""
        return self.micro_batch_size * self.max_seq_len

    @property
    def is_sharded(self) -> bool:
        """Whether FSDP wraps the model (`training.engine.model.make_trainable`)."""
        return self.num_workers > 1 or self.param_dtype != self.master_dtype


def read_setup(training: Any, *, device: str, num_workers: int | None = None) -> TrainingSetup:
    """Take the settings that matter from a training section.

    Args:
        training: `voc.config.training.TrainingConfig`, or anything with its names.
        device: `cuda` or `cpu`.
        num_workers: Ranks; None: those of the section.
    """
    ranks = training.num_workers if num_workers is None else num_workers
    at_once = training.micro_batch_size if training.batch_unit == "rows" else 1
    return TrainingSetup(
        device=device,
        num_workers=ranks,
        accumulates=training.global_batch_size > ranks * at_once,
        micro_batch_size=training.micro_batch_size,
        max_seq_len=training.max_seq_len,
        param_dtype=training.param_dtype,
        master_dtype=training.master_dtype,
        activation_checkpointing=training.activation_checkpointing,
        gradient_sync=training.gradient_sync,
        loss_kernel="chunked" if training.loss_kernel == "auto" else training.loss_kernel,
        loss_chunk_tokens=training.loss_chunk_tokens,
        optimizer=training.optimizer.name,
        experts_implementation=training.experts.implementation,
        experts_parallel_size=training.experts.parallel_size,
    )
