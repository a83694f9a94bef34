"""One training sample as the model sees it: `python -m training show --arm NAME --row N`."""

from __future__ import annotations

from corpus.encoding.encode import format_sample
from training.job import open_job
from voc.run import Run


def show_sample(run: Run, arm: str, row: int) -> str:
    """Return a sample of an arm's training order: where it came from, its sizes, and its text with learned parts in ⟦⟧.

    Args:
        run: A run whose data is prepared.
        arm: Name of the arm.
        row: Position in the training order, from 0.

    Raises:
        TrainingError: If the arm draws fewer samples.
    """
    job = open_job(run, arm)
    step, sample = job.samples.read_sample(row)
    share = job.plan.shares[sample.share]
    origin = f"row {sample.source_row + 1} of {share.stratum}"
    head = f"sample {row} of {arm} (step {step + 1}): {origin}"
    return format_sample(head, sample.input_ids, sample.learned, job.base.tokenizer)
