"""A random Qwen3 of a few thousand parameters with a small BPE tokenizer and a chat template, for tests of any package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DEFAULT_TEXTS = (
    "The following are multiple choice questions (with answers) about things.",
    "A. red B. green C. blue D. black. The correct answer is (B). Answer:",
    "Comment: the battery is dead and the screen is bright",
    '[{"content": "the battery is dead", "L1": "laptop", "L2": "battery", "L3": "life", "L4": "short", "emotion": "sad"}]',
)


def make_tiny_model(
    folder: Path,
    texts: Iterable[str] = DEFAULT_TEXTS,
    *,
    hidden_size: int = 32,
    num_layers: int = 2,
    head_dim: int = 16,
    vocab_size: int = 400,
    max_position_embeddings: int = 512,
    tie_word_embeddings: bool = True,
    dtype: str = "float32",
    num_experts: int = 0,
    chat_template: str | None = CHAT_TEMPLATE,
    seed: int = 0,
) -> Path:
    """Write the model into `folder` (Hugging Face layout) and return it; the same arguments give the same bytes.

    With `num_experts` it is a Qwen3-MoE that chooses two of them for each token.
    """
    import torch
    from transformers import (
        AutoModelForCausalLM,
        GenerationConfig,
        PreTrainedTokenizerFast,
        Qwen3Config,
        Qwen3MoeConfig,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train_bpe([*texts, *DEFAULT_TEXTS], vocab_size),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=max_position_embeddings,
    )
    tokenizer.chat_template = chat_template
    sparse = {"num_experts": num_experts, "num_experts_per_tok": 2, "moe_intermediate_size": hidden_size // 2}
    config = (Qwen3MoeConfig if num_experts else Qwen3Config)(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=max_position_embeddings,
        tie_word_embeddings=tie_word_embeddings,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **(sparse if num_experts else {}),
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(getattr(torch, dtype))
    stops = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_moe(folder: Path, *, dtype: str = "bfloat16", num_experts: int = 4, seed: int = 0) -> Path:
    """Write a random Qwen3-MoE with one tensor per expert, as its published checkpoints have them, and return its folder."""
    import torch
    from transformers import AutoConfig, Qwen3MoeConfig, Qwen3MoeForCausalLM

    make_tiny_model(folder)
    dense = AutoConfig.from_pretrained(folder)
    config = Qwen3MoeConfig(
        vocab_size=dense.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=num_experts,
        num_experts_per_tok=2,
        max_position_embeddings=dense.max_position_embeddings,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=dense.eos_token_id,
    )
    torch.manual_seed(seed)
    model = Qwen3MoeForCausalLM(config).to(getattr(torch, dtype))
    generation = (folder / "generation_config.json").read_bytes()
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_bytes(generation)
    return folder


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Return the byte-level BPE tokenizer of some texts: every text has tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
