"""A random Qwen3 that is made in a second: the real architecture, tokenizer and chat template at the smallest size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MMLU_LIKE = "The following are multiple choice questions (with answers) about x.\n\nA. one\nB. two\nC. three\nD. four\nAnswer: A B C D"


def make_tiny_model(
    folder: Path, *, texts: Iterable[str] = (), vocab_size: int = 600, max_position_embeddings: int = 1024, seed: int = 0
) -> Path:
    """Write a Qwen3 of width 64 with 2 layers, its BPE tokenizer and its chat template, and return the folder.

    ` A` to ` D` are one token each, as in every tokenizer that the MMLU suite can use. No text is out of the vocabulary
    (byte-level fallback).
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([MMLU_LIKE] * 4 + list(texts), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=max_position_embeddings,
    )
    fast.chat_template = CHAT_TEMPLATE
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
        initializer_range=0.1,
    )
    Qwen3ForCausalLM(config).to(torch.float32).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
