"""One sample as the model sees it, learned parts marked."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LEARNED = "⟦{}⟧"


def format_sample(head: str, input_ids: np.ndarray, learned: np.ndarray, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a line about the sample, then its text with learned parts in ⟦⟧ and all else, which the loss masks, bare."""
    parts = []
    for is_learned, group in groupby(zip(input_ids.tolist(), learned.tolist(), strict=True), key=lambda pair: pair[1]):
        text = str(tokenizer.decode([token for token, _ in group], clean_up_tokenization_spaces=False))
        parts.append(LEARNED.format(text) if is_learned else text)
    num_learned = int(np.count_nonzero(learned[1:]))
    return f"{head}, {len(input_ids)} tokens, {num_learned} learned\n{''.join(parts)}"
