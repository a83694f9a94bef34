"""The tiny model's tokenizer: a byte-level BPE over the world's own texts, with Qwen's chat markers.

Names, values and option letters are one token each, so that a question is short and a letter's log-probability is one
number. Source: the vocabulary layout of Qwen3's tokenizer (byte-level BPE, ChatML markers as special tokens).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from demo.corpus import END_OF_TEXT, IM_END, IM_START, CorpusWriter
from demo.world import World
from voc.errors import ModelError
from voc.labels.taxonomy import Taxonomy
from voc.prompts import MMLU_LETTERS, render_answer, render_messages
from voc.records.records import VocRecord

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 2048
_DOCUMENTS = 4000
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ message['content'] }}<|im_end|>\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(
    world: World, records: Sequence[VocRecord], taxonomy: Taxonomy, seed: int
) -> PreTrainedTokenizerFast:
    """Learn the vocabulary from base documents and training comments with their JSON.

    Raises:
        ModelError: If a name, value or letter is more than one token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[END_OF_TEXT, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=20,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_write_texts(world, records, taxonomy, seed), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=IM_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[IM_START],
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    check_single_tokens(wrapped, world)
    return wrapped


def check_single_tokens(tokenizer: PreTrainedTokenizerFast, world: World) -> None:
    """Check that whatever is scored or recalled is one token.

    Raises:
        ModelError: With the words that are not.
    """
    words = [*MMLU_LETTERS, *(f" {word}" for word in (*MMLU_LETTERS, *world.entities, *world.values))]
    split = [word for word in words if len(tokenizer.encode(word, add_special_tokens=False)) != 1]
    if split:
        raise ModelError(
            f"{len(split)} words are more than one token: {', '.join(map(repr, split[:10]))}",
            expected="one token for every letter, name and value",
            remedy="raise VOCABULARY_SIZE or the number of training comments",
        )


def _write_texts(world: World, records: Sequence[VocRecord], taxonomy: Taxonomy, seed: int) -> Iterator[str]:
    writer = CorpusWriter(world, world.facts, random.Random(f"{seed}/tokenizer"))
    for document in islice(writer.write_documents(), _DOCUMENTS):
        yield "".join(piece.text for piece in document)
    for record in records:
        yield "\n".join(message["content"] for message in render_messages(record.comment, "internalized", taxonomy))
        yield render_answer(record.segments)
