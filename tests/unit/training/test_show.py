from __future__ import annotations

from collections.abc import Callable

import pytest

from training.job import TrainingJob
from training.show import show_sample
from voc.errors import TrainingError


def test_learned_text_is_marked(make_job: Callable[..., TrainingJob]) -> None:
    job = make_job()
    row = next(i for i in range(32) if job.samples.read_sample(i)[1].share == 0)
    text = show_sample(job.run, "mixed", row)
    head, _, body = text.partition("\n")
    assert head.startswith(f"sample {row} of mixed (step {row // 8 + 1}): row ")
    assert "of customer" in head
    assert body.count("⟦") == 1
    assert body.endswith("<|im_end|>⟧")
    assert '⟦[{"content": "the ' in body


def test_a_row_outside_of_the_order_is_an_error(make_job: Callable[..., TrainingJob]) -> None:
    with pytest.raises(TrainingError, match="outside of the arm's 32 samples"):
        show_sample(make_job().run, "mixed", 32)
