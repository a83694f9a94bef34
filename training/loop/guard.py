"""Steps whose loss is out of line: no number ends the training, a spike is reported, skipped, or ends it.

A spike is a loss above a multiple of the median of the last accepted losses, as they stand in the metrics: a resumed training
judges as an uninterrupted one does. All ranks hold the same loss, so they judge alike.

Source: skipping the batches of a spike as in Chowdhery et al., "PaLM", arXiv:2204.02311, section 5.1.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from statistics import median

from corpus.mixing.samples import Sample
from training.engine.process_group import Ranks
from training.job import TrainingJob
from training.loop.bad_steps import BadStep, record_bad_step
from training.metrics import StepFigures, list_steps
from voc.errors import TrainingError


class StepGuard:
    """Judges each step before its update.

    Args:
        job: The arm's job.
        ranks: Where this process stands; `check` is called by all ranks together.
        metrics: The figures of the steps done.
    """

    def __init__(self, job: TrainingJob, ranks: Ranks, metrics: Sequence[StepFigures]) -> None:
        self._job = job
        self._ranks = ranks
        self._config = job.training.guard
        steps = list_steps(metrics)
        accepted = [figures["loss"] for figures in steps if "skipped" not in figures]
        self._window: deque[float] = deque(accepted, maxlen=self._config.window_steps)
        self._skipped_in_a_row = len(list(takewhile(lambda figures: "skipped" in figures, reversed(steps))))

    def check(self, step: int, samples: Sequence[Sample], loss: float, grad_norm: float) -> dict[str, int]:
        """Judge a step (from 0).

        Returns:
            Nothing for a usual step, `spike: 1` for one out of line, with `skipped: 1` if it must not be made.

        Raises:
            TrainingError: If the step ends the training.
        """
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            bad = BadStep(step + 1, "not_finite", "stop", loss, grad_norm)
            text = record_bad_step(self._job, self._ranks, bad, samples)
            raise TrainingError(
                f"arm {self._job.arm!r}: loss {loss} and gradient norm {grad_norm} in step {step + 1}, made from {text}",
                expected="finite numbers",
                remedy="look at these rows, lower training.optimizer.learning_rate or lengthen warmup_steps",
            )
        if not is_spike(loss, self._window, self._config.spike_ratio):
            self._accept(loss)
            return {}
        return self._take_spike(step, samples, loss, grad_norm)

    def _take_spike(self, step: int, samples: Sequence[Sample], loss: float, grad_norm: float) -> dict[str, int]:
        action = self._config.on_spike
        bad = BadStep(step + 1, "spike", action, loss, grad_norm)
        text = record_bad_step(self._job, self._ranks, bad, samples)
        usual = median(self._window)
        found = (
            f"arm {self._job.arm!r}: the loss {loss:.4f} of step {step + 1} is {loss / usual:.1f} x the median "
            f"{usual:.4f} of {len(self._window)} steps before it"
        )
        limit = f"at most {self._config.spike_ratio:g} x (training.guard.spike_ratio)"
        if action == "stop":
            raise TrainingError(f"{found}, made from {text}", expected=limit, remedy="look at these rows")
        if action == "report":
            self._accept(loss)
        elif self._skipped_in_a_row + 1 >= self._config.window_steps:
            raise TrainingError(
                f"{found}, and the {self._skipped_in_a_row} steps before it were skipped for the same",
                expected=f"{limit} in one of {self._config.window_steps} steps (window_steps)",
                remedy="the model or the data is another than before, not a few rows: see bad_steps.jsonl",
            )
        if self._ranks.is_first:
            print(f"{found}: {'skipped' if action == 'skip' else 'reported'}; made from {text}", flush=True)
        if action == "report":
            return {"spike": 1}
        self._skipped_in_a_row += 1
        return {"spike": 1, "skipped": 1}

    def _accept(self, loss: float) -> None:
        self._window.append(loss)
        self._skipped_in_a_row = 0


def is_spike(loss: float, accepted: Sequence[float], ratio: float) -> bool:
    """Tell whether a loss is above `ratio` times the median of accepted losses; never without them, or if the ratio is 0."""
    return bool(ratio) and bool(accepted) and loss > ratio * median(accepted)
