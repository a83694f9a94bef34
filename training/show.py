"""One training sample as the model sees it: `python -m training show --arm NAME --row N`."""

from __future__ import annotations

from itertools import groupby

from corpus.encode import IGNORE_INDEX
from training.job import open_job
from voc.errors import ConfigError
from voc.run import Run

LEARNED = "⟦{}⟧"


def show_sample(run: Run, arm: str, row: int) -> str:
    """Return a sample of an arm's training order: where it came from, its sizes, and its text with learned parts in ⟦⟧.

    Args:
        run: A run whose data is prepared.
        arm: Name of the arm.
        row: Position in the training order, from 0.

    Raises:
        ConfigError: If the arm draws fewer samples.
    """
    job = open_job(run, arm)
    order = job.samples.order
    if not 0 <= row < len(order):
        raise ConfigError(
            f"--row {row} is outside of the arm's {len(order)} samples", expected=f"0 to {len(order) - 1}"
        )
    source, index = order[row]
    document = job.samples.sources[source][index]
    step = row // job.training.global_batch_size + 1
    parts = []
    for is_learned, group in groupby(
        zip(document.input_ids.tolist(), document.labels.tolist(), strict=True),
        key=lambda pair: pair[1] != IGNORE_INDEX,
    ):
        text = str(job.base.tokenizer.decode([token for token, _ in group], clean_up_tokenization_spaces=False))
        parts.append(LEARNED.format(text) if is_learned else text)
    head = (
        f"sample {row} of {arm} (step {step}): row {index + 1} of {job.plan.shares[source].name}, "
        f"{len(document)} tokens, {document.num_targets} learned"
    )
    return f"{head}\n{''.join(parts)}"
