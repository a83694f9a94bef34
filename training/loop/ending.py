"""When a training ends: after its last step, when its time is used up, or when the model forgets what it knew.

However it ends, the weights of the last step are exported, not those of the best evaluation: the model, its metrics and its
newest checkpoint then speak of the same step, and whether that model is good enough is the decision's to say, on questions and
not on a loss. The checkpoint with the least held-out loss is kept beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist

from training.engine.process_group import Ranks
from training.metrics import StepFigures
from voc.config.training import TrainingConfig

StoppedBy = Literal["max_steps", "time_budget", "early_stop"]


class Ending:
    """Watches a training's limits.

    Args:
        training: The training section.
        ranks: Where this process stands; `check_limits` is called by all ranks together.
        metrics: The figures of the steps done, a resumed training's too; they are read again at every check.
    """

    def __init__(self, training: TrainingConfig, ranks: Ranks, metrics: Sequence[StepFigures]) -> None:
        self._training = training
        self._ranks = ranks
        self._metrics = metrics
        self._wall_s = sum(figures.get("wall_s", 0.0) for figures in metrics)

    @property
    def is_reached(self) -> bool:
        """True once a step was the last one."""
        return bool(self._metrics) and "stopped_by" in self._metrics[-1]

    def check_limits(self, figures: StepFigures) -> StoppedBy | None:
        """Return the limit that the training reached with this step."""
        self._wall_s += figures["wall_s"]
        if figures["step"] >= self._training.max_steps:
            return "max_steps"
        limit_s = self._training.max_wall_s
        if limit_s is not None and self._agree(self._wall_s >= limit_s):
            return "time_budget"
        return None

    def check_losses(self) -> StoppedBy | None:
        """Return whether the held-out losses so far end the training."""
        rule = self._training.validation.early_stop
        evaluated = [figures["validation"] for figures in self._metrics if "validation" in figures]
        losses = [losses["general_loss"] for losses in evaluated if "general_loss" in losses]
        if is_forgetting(losses, patience=rule.patience, max_rise_ratio=rule.max_general_rise_ratio):
            return "early_stop"
        return None

    def _agree(self, is_over: bool) -> bool:
        """Return what the first rank says: the ranks' clocks differ."""
        flag = torch.tensor([float(is_over)], device=self._ranks.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())


def is_forgetting(losses: Sequence[float], *, patience: int, max_rise_ratio: float) -> bool:
    """Tell whether the last `patience` general losses are all above the first by more than a share of it.

    Args:
        losses: Of each evaluation, the first before the first step.
        patience: Evaluations in a row; 0: never.
        max_rise_ratio: What they may rise above the first, less 1.
    """
    if not patience or len(losses) <= patience:
        return False
    return all(loss > losses[0] * (1 + max_rise_ratio) for loss in losses[-patience:])
