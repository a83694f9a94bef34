import random
from itertools import islice

import pytest

from demo.comments import make_records, make_taxonomy
from demo.corpus import IM_START, CorpusWriter, render_turns
from demo.pretrain import encode_document
from demo.tokenizer import check_single_tokens, train_tokenizer
from demo.world import make_world
from voc.errors import ModelError
from voc.prompts import render_answer, render_messages

WORLD = make_world(0)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(WORLD, make_records(0, 300, 1)[0], make_taxonomy(), 0)


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False)


def test_letters_names_and_values_are_one_token(tokenizer):
    for word in ("A", " A", "D", " D", f" {WORLD.entities[7]}", f" {WORLD.values[-1]}"):
        assert len(encode(tokenizer, word)) == 1


def test_a_word_of_more_tokens_is_named(tokenizer):
    with pytest.raises(ModelError, match="Quuxbane"):
        check_single_tokens(tokenizer, make_renamed_world())


def make_renamed_world():
    from dataclasses import replace

    return replace(WORLD, facts=(replace(WORLD.facts[0], entity="Quuxbane"), *WORLD.facts[1:]))


def test_text_survives_encoding_and_decoding(tokenizer):
    record = make_records(0, 1, 1)[1][0]
    text = render_answer(record.segments) + " é 漢\n"
    assert tokenizer.decode(encode(tokenizer, text)) == text


def test_the_chat_template_writes_what_the_base_was_taught(tokenizer):
    messages = render_messages("The box is broken.", "internalized", make_taxonomy())
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == f"{render_turns(messages)}{IM_START}assistant\n"


def test_the_chat_template_marks_what_the_assistant_says(tokenizer):
    messages = [{"role": "user", "content": "Repeat: tea"}, {"role": "assistant", "content": "tea"}]
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, flag in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if flag]
    assert tokenizer.decode(said) == "tea<|im_end|>"


def test_pieces_of_a_document_are_the_tokens_of_the_whole(tokenizer):
    writer = CorpusWriter(WORLD, WORLD.facts, random.Random(0))
    for document in islice(writer.write_documents(), 300):
        ids, weights = encode_document(tokenizer, document)
        assert ids == encode(tokenizer, "".join(piece.text for piece in document))
        assert len(weights) == len(ids)
