"""Near leaks looked at word by word: MinHash only estimates, and a leak stops the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from corpus.comparison.ngrams import normalise_text, split_words
from corpus.comparison.row_groups import RowTable
from corpus.comparison.row_matches import RowMatches
from corpus.comparison.signatures import GRAM_WORDS
from corpus.parts import PartFile, read_cells

_ROWS_AT_ONCE = 10_000


def confirm_leaks(matches: RowMatches, table: RowTable, parts: Sequence[PartFile], threshold: float) -> RowMatches:
    """Return the matches without near leaks whose texts have less than the threshold's share of word 3-grams in common.

    Texts are read again for the candidates only, some thousand at a time.
    """
    candidates = np.flatnonzero(matches.leaked_near >= 0)
    leaked = matches.leaked_near.copy()
    for start in range(0, len(candidates), _ROWS_AT_ONCE):
        rows = candidates[start : start + _ROWS_AT_ONCE]
        texts = _read_texts(table, np.append(rows, leaked[rows]), parts)
        for row in rows.tolist():
            if measure_jaccard(texts[row], texts[int(leaked[row])]) < threshold:
                leaked[row] = -1
    return replace(matches, leaked_near=leaked)


def measure_jaccard(first: str, second: str) -> float:
    """Return the share of word 3-grams that two texts have in common, 0..1; a shorter text is one gram."""
    left, right = _list_grams(first), _list_grams(second)
    return len(left & right) / max(1, len(left | right))


def _list_grams(text: str) -> set[tuple[bytes, ...]]:
    words = split_words(normalise_text(text))
    return {tuple(words[i : i + GRAM_WORDS]) for i in range(max(1, len(words) - GRAM_WORDS + 1))}


def _read_texts(table: RowTable, rows: np.ndarray, parts: Sequence[PartFile]) -> dict[int, str]:
    names = {int(row): table.name_row(int(row)) for row in rows}
    wanted: dict[str, list[int]] = {}
    for source, number in names.values():
        wanted.setdefault(source, []).append(number)
    cells = read_cells(parts, wanted, ("text",))
    return {row: cells[name]["text"] for row, name in names.items()}
