"""The model that every side of `vs_trl` trains: a random Qwen3 of 34 M parameters, with a vocabulary of its own.

    python -m benchmarks.train.base --rows DIR --output DIR

With Qwen's 151,936 entries the embedding alone would be 78 M parameters at this width and the output layer most of the work;
in Qwen3-4B it is a tenth. So the tokenizer is a BPE of 16,384 entries made from the same comments and chats; it cuts them into
about as many tokens as Qwen's does. The embedding is 25 % of the parameters.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.data.base import PATTERN, SPECIAL_TOKENS, save_base, wrap_tokenizer
from benchmarks.study.rows import GENERAL_FILE, VOC_FILE

VOCAB_SIZE = 16_384
CONTEXT_TOKENS = 4096
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
}


def train_tokenizer(rows: Path) -> Any:
    """Return a byte-level BPE over the texts of the rows, with Qwen's pattern, markers and chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_read_texts(rows), trainer)
    return wrap_tokenizer(tokenizer, CONTEXT_TOKENS)


def _read_texts(rows: Path) -> Iterator[str]:
    """Yield the comments, their segments as JSON, and the turns of the chats."""
    with (rows / VOC_FILE).open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            yield row["comment"]
            yield json.dumps(row["segments"], ensure_ascii=False)
    with (rows / GENERAL_FILE).open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            yield from (turn["content"] for turn in row["messages"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    save_base(arguments.output, train_tokenizer(arguments.rows), _SHAPE)
    print(json.dumps({"base": str(arguments.output)}))


if __name__ == "__main__":
    main()
