"""The files of one part: any rows of its tokens, in any order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from corpus.parts.part_files import PartRow, open_tokens, read_tokens, writing_part

BATCHES = (3, 1, 4)


def test_rows_of_several_batches_come_in_the_order_they_are_asked_for(tmp_path: Path) -> None:
    drawn = np.random.default_rng(3)
    with writing_part(tmp_path / "rows", tmp_path / "tokens") as writer:
        for size in BATCHES:
            lengths = drawn.integers(1, 9, size)
            samples = [
                SimpleNamespace(input_ids=drawn.integers(0, 99, n, dtype=np.int32), learned=drawn.random(n) < 0.5)
                for n in lengths.tolist()
            ]
            writer.write([PartRow(*("x" * 6))] * size, samples)
    table = open_tokens(tmp_path / "tokens").to_pylist()
    assert len(table) == sum(BATCHES)
    wanted = np.array([7, 0, 3, 3, 4, 2])
    assert read_tokens(tmp_path / "tokens", wanted).to_pylist() == [table[row] for row in wanted]
    assert read_tokens(tmp_path / "tokens", wanted[:1]).to_pylist() == [table[7]]
