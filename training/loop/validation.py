"""The loss on held-out rows while a model is trained: per source and category, of customer rows, of general rows, of all.

The rows fall into the same forward passes whatever the number of ranks, each rank computes its share of them, and every pass has
a place of its own in the sum: so the figures do not depend on who computed what. Reads the run's `validation/`.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from corpus.mixing.samples import SampleReader
from training.engine.batches import Batch, Document, build_batch, pack_first_fit_decreasing
from training.engine.model import compute_loss_sum
from training.engine.process_group import Ranks
from training.job import TrainingJob
from training.metrics import StepFigures
from voc.errors import TrainingError
from voc.mixture import Stratum

KINDS = {"voc": "customer_loss", "general": "general_loss"}


@dataclass(frozen=True, slots=True)
class StratumLoss:
    """What held-out rows of one source or category lose.

    Attributes:
        stratum: Which.
        format: `voc` or `general`.
        loss_sum: Cross-entropy summed over the learned tokens.
        num_targets: How many learned tokens.
    """

    stratum: Stratum
    format: str
    loss_sum: float
    num_targets: int


class Validation:
    """The held-out rows of a run as this rank's forward passes; without rows it measures nothing.

    Args:
        job: The arm's job.
        ranks: Where this process stands; every method is called by all ranks together.
    """

    def __init__(self, job: TrainingJob, ranks: Ranks) -> None:
        self._ranks = ranks
        self._arm = job.arm
        self._every_steps = job.training.validation.every_steps
        self._strata: list[tuple[Stratum, str]] = []
        self._num_targets: list[int] = []
        self._strata_of_passes: list[int] = []
        self._passes: list[tuple[int, Batch]] = []
        if job.held_out is not None:
            self._lay_out(job, [list(documents) for documents in _read_documents(job)])
            facts = job.held_out.facts["strata"]
            self._strata = [(Stratum(fact["name"], fact["category"]), fact["format"]) for fact in facts]

    def is_due(self, step: int) -> bool:
        """Tell whether the model is evaluated after so many optimizer steps."""
        return bool(self._strata) and step % self._every_steps == 0

    def measure(self, model: PreTrainedModel, step: int) -> StepFigures:
        """Evaluate the model after `step` optimizer steps.

        Returns:
            `validation` with the losses (mean per learned token) and `validation_s`, equal on all ranks but for the time; nothing
            if no rows are held out.

        Raises:
            TrainingError: If a loss is not finite.
        """
        if not self._strata:
            return {}
        start = time.monotonic()
        sums = self._sum_losses(model)
        found = [
            StratumLoss(stratum, form, loss_sum, num_targets)
            for (stratum, form), loss_sum, num_targets in zip(self._strata, sums, self._num_targets, strict=True)
        ]
        losses = combine_losses(found)
        if not math.isfinite(losses["loss"]):
            raise TrainingError(
                f"arm {self._arm!r}: the held-out loss is {losses['loss']} after step {step}: {losses['strata']}",
                expected="finite numbers",
                remedy="lower training.optimizer.learning_rate or lengthen warmup_steps",
            )
        return {"validation": losses, "validation_s": round(time.monotonic() - start, 4)}

    def _lay_out(self, job: TrainingJob, strata: Sequence[Sequence[Document]]) -> None:
        pass_tokens = job.training.micro_batch_size * job.training.max_seq_len
        parts: list[list[Document]] = []
        for index, documents in enumerate(strata):
            rows = pack_first_fit_decreasing([len(document) for document in documents], pass_tokens)
            parts += [[documents[i] for i in row] for row in rows]
            self._strata_of_passes += [index] * len(rows)
            self._num_targets.append(sum(document.num_targets for document in documents))
        # Ranks with fewer passes get an empty one: every rank takes part in every collective.
        num_passes = -(-len(parts) // self._ranks.world_size)
        for place in range(num_passes):
            number = place * self._ranks.world_size + self._ranks.rank
            documents = parts[number] if number < len(parts) else []
            self._passes.append((number, build_batch(documents, **job.batch_options)))

    def _sum_losses(self, model: PreTrainedModel) -> list[float]:
        """Return [strata] cross-entropy summed over the learned tokens of all ranks."""
        losses = torch.zeros(len(self._passes) * self._ranks.world_size, dtype=torch.float64, device=self._ranks.device)
        model.eval()
        with torch.no_grad():
            for number, batch in self._passes:
                losses[number] = compute_loss_sum(model, batch.to(self._ranks.device))
        model.train()
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # no backward pass comes that would do it, and an update must find the shards
        dist.all_reduce(losses)
        sums = [0.0] * len(self._strata)
        for stratum, loss in zip(self._strata_of_passes, losses.tolist(), strict=False):
            sums[stratum] += loss
        return sums


def combine_losses(found: Sequence[StratumLoss]) -> dict[str, Any]:
    """Return mean losses per learned token.

    Returns:
        `loss` of all rows, `customer_loss` and `general_loss` where there are such rows, and `strata`: of every source and
        of every category of a general source (`general/chat`). A kind's rows weigh by their learned tokens.
    """
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for part in found:
        names = ["loss", KINDS[part.format], *dict.fromkeys((f"/{part.stratum.source}", f"/{part.stratum}"))]
        for name in names:
            sums[name] += part.loss_sum
            counts[name] += part.num_targets
    means = {name: sums[name] / count for name, count in counts.items() if count}
    strata = {name[1:]: mean for name, mean in means.items() if name.startswith("/")}
    return {name: mean for name, mean in means.items() if not name.startswith("/")} | {"strata": strata}


def _read_documents(job: TrainingJob) -> Iterator[Iterator[Document]]:
    """Yield the held-out documents of each stratum."""
    if job.held_out is None:
        return
    reader = SampleReader(job.run.store, job.run.layout.validation, job.held_out)
    for stratum in range(reader.num_steps):
        yield (Document(sample.input_ids, sample.labels) for sample in reader.read_step(stratum))
