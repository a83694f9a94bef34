"""What `python -m demo make` makes: sizes and seeds, whose hash tells whether a folder is finished."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Goes up whenever the same recipe gives other bytes, so that folders made by older code are made again.
RECIPE_VERSION = 5


@dataclass(frozen=True, slots=True)
class Recipe:
    """Sizes and seeds of a demo world.

    Attributes:
        seed: Seed of the world, the data and the base model.
        pretrain_steps: Optimizer steps of the base model; 1,900 make one that knows its facts, 1 is enough for plumbing.
        pretrain_batch_size: Documents in one step.
        train_comments: VOC records for training.
        test_comments: VOC records for the test; none of their comments is a training comment.
        general_rows: General rows, all about replayed facts.
        questions: Multiple-choice test questions, at most 576 (288 facts in 2 held-out wordings).
        threads: Parts of a batch that are computed at once; the sums depend on it in their last bits.
    """

    seed: int = 0
    pretrain_steps: int = 1900
    pretrain_batch_size: int = 32
    train_comments: int = 2000
    test_comments: int = 469
    general_rows: int = 667
    questions: int = 576
    threads: int = 2

    def to_inputs(self) -> dict[str, Any]:
        """Return what a manifest names as the inputs."""
        return {"recipe_version": RECIPE_VERSION, **asdict(self)}
