"""Text to tokens in batches, with what recurs tokenised once.

A tokenizer treats its special tokens as walls: the text between two of them has the same tokens wherever it stands. So a
rendered chat is cut at its special tokens, parts that recur (the system turn, role names) are looked up, and the rest goes to
the tokenizer as one batch. Whether cutting is exact for this tokenizer is checked when it is opened; where it is not, texts go
in whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MAX_CACHED = 4096
_MAX_SHORT_CHARS = 24
_PROBES = ("a{0}b", " a {0} b ", "x\n{0}\nYes, it's 12.5 °C 日本 🙂{0}{0}user\n y", "{0}", "Grüße{0}  \t1")


class PieceTokenizer:
    """Turns many texts into token ids.

    Args:
        tokenizer: A tokenizer with a Rust backend.
        recurring: Texts between special tokens that many rows share (a system turn); any length.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, recurring: Sequence[str] = ()) -> None:
        self._backend = tokenizer.backend_tokenizer
        added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = added
        walls = "|".join(re.escape(text) for text in sorted(added, key=len, reverse=True))
        self._walls = re.compile(f"({walls})") if walls else None
        self._recurring = set(recurring)
        self._cache: dict[str, list[int]] = {}
        if self._walls is not None and not self._is_cutting_exact():
            self._walls = None

    @property
    def cuts_at_special_tokens(self) -> bool:
        """Whether texts are cut; False means that this tokenizer sees across its special tokens."""
        return self._walls is not None

    def tokenize(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[list[int]]:
        """Return the tokens of each text, equal to those of the tokenizer itself.

        Args:
            texts: Any texts.
            add_special_tokens: Whether the tokenizer's own frame (a leading BOS, say) is added; then texts go in whole.
        """
        if self._walls is None or add_special_tokens:
            return self._encode(texts, add_special_tokens=add_special_tokens)
        parts = [self._walls.split(text) for text in texts]
        wanted = dict.fromkeys(p for cut in parts for p in cut[::2] if p and p not in self._cache)
        unknown = list(wanted)
        found = dict(zip(unknown, self._encode(unknown, add_special_tokens=False), strict=True))
        result = [self._join(cut, found) for cut in parts]
        self._remember(found)
        return result

    def _join(self, cut: list[str], found: dict[str, list[int]]) -> list[int]:
        ids: list[int] = []
        for index, part in enumerate(cut):
            if index % 2:
                ids.append(self._special[part])
            elif part:
                ids += self._cache[part] if part in self._cache else found[part]
        return ids

    def _remember(self, found: dict[str, list[int]]) -> None:
        for text, ids in found.items():
            if len(self._cache) >= _MAX_CACHED:
                return
            if len(text) <= _MAX_SHORT_CHARS or text in self._recurring:
                self._cache[text] = ids

    def _encode(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        batch = self._backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [encoding.ids for encoding in batch]

    def _is_cutting_exact(self) -> bool:
        texts = [probe.format(wall) for wall in self._special for probe in _PROBES]
        return self.tokenize(texts) == self._encode(texts, add_special_tokens=False)
