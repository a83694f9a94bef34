from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from corpus.encoding.base_model import open_base
from corpus.encoding.encode import IGNORE_INDEX, EncodedSample, SampleEncoder, check_answers
from tests.tiny_model import CHAT_TEMPLATE, make_tiny_model
from tests.tiny_run import LABELS, make_voc_row
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.prompts import render_answer, render_messages
from voc.records.records import GeneralRecord, parse_voc_record
from voc.records.refusals import RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TAXONOMY = Taxonomy(tuple(Leaf(label, "what it is") for label in LABELS))
CHAT = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "first"},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "second"},
)


def list_learned_texts(sample: EncodedSample, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Decode every unbroken run of learned tokens."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sample.learned, [False]]).astype(np.int8)))
    runs = [sample.input_ids[start:end].tolist() for start, end in edges.reshape(-1, 2)]
    return [str(tokenizer.decode(run, clean_up_tokenization_spaces=False)) for run in runs]


def make_encoder(folder: Path, max_seq_len: int = 512) -> SampleEncoder:
    base = open_base(str(folder), max_seq_len=max_seq_len)
    return SampleEncoder(base, max_seq_len=max_seq_len, variant="internalized", taxonomy=TAXONOMY)


def chat_of(turns: Sequence[Mapping[str, str]]) -> GeneralRecord:
    return GeneralRecord(messages=tuple(turns))


@pytest.fixture(scope="module")
def encoder(tiny_base: Path) -> SampleEncoder:
    return make_encoder(tiny_base)


def test_exactly_the_answer_and_its_end_are_learned_from_a_comment(encoder: SampleEncoder) -> None:
    record = parse_voc_record(make_voc_row(1), TAXONOMY)
    learned = list_learned_texts(encoder.encode_one(record), encoder.tokenizer)
    assert learned == [render_answer(record.segments) + "<|im_end|>"]


def test_the_tokens_before_the_answer_are_those_that_a_server_makes_of_the_prompt(encoder: SampleEncoder) -> None:
    record = parse_voc_record(make_voc_row(1), TAXONOMY)
    sample = encoder.encode_one(record)
    messages = render_messages(record.comment, "internalized", TAXONOMY)
    text = encoder.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    served = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert list(sample.input_ids[: len(served)]) == served
    assert set(sample.labels[: len(served)].tolist()) == {IGNORE_INDEX}
    assert sample.labels[len(served) :].tolist() == sample.input_ids[len(served) :].tolist()


def test_every_assistant_turn_is_learned_and_nothing_else(encoder: SampleEncoder) -> None:
    sample = encoder.encode_one(GeneralRecord(messages=CHAT))
    assert list_learned_texts(sample, encoder.tokenizer) == ["first<|im_end|>", "second<|im_end|>"]
    text = encoder.tokenizer.decode(list(sample.input_ids))
    assert text == encoder.tokenizer.apply_chat_template(list(CHAT), tokenize=False).removesuffix("\n")


def test_a_completion_keeps_its_space_and_ends_the_text(encoder: SampleEncoder) -> None:
    sample = encoder.encode_one(GeneralRecord(prompt="A. red\nAnswer:", completion=" B"))
    assert list_learned_texts(sample, encoder.tokenizer) == [" B<|endoftext|>"]
    prompt = encoder.tokenizer("A. red\nAnswer:")["input_ids"]
    assert list(sample.input_ids[: len(prompt)]) == prompt


def test_text_in_any_script_is_learned_unchanged(encoder: SampleEncoder) -> None:
    sample = encoder.encode_one(chat_of([CHAT[1], {"role": "assistant", "content": "Grüße 日本 🙂\n  x "}]))
    assert list_learned_texts(sample, encoder.tokenizer) == ["Grüße 日本 🙂\n  x <|im_end|>"]


def test_a_thinking_preamble_of_the_template_is_accepted(tmp_path: Path) -> None:
    template = CHAT_TEMPLATE.replace(
        "\n{{ message['content'] }}",
        "\n{% if loop.last and message['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message['content'] }}",
    )
    encoder = make_encoder(make_tiny_model(tmp_path / "model", chat_template=template))
    learned = list_learned_texts(encoder.encode_one(chat_of(CHAT)), encoder.tokenizer)
    assert learned == ["first<|im_end|>", "<think>\n\n</think>\n\nsecond<|im_end|>"]


@pytest.mark.parametrize(
    ("replacement", "reason"),
    [
        ("{{ message['content'] | upper }}", "labels_do_not_decode"),
        ("{{ message['content'][:3] }}", "labels_do_not_decode"),
        ("{{ raise_exception('no system turn') }}", "chat_template"),
    ],
)
def test_a_template_that_changes_the_answer_is_refused(tmp_path: Path, replacement: str, reason: str) -> None:
    encoder = make_encoder(make_tiny_model(tmp_path / "model"))
    encoder.tokenizer.chat_template = CHAT_TEMPLATE.replace("{{ message['content'] }}", replacement)
    with pytest.raises(RowError) as error:
        encoder.encode_one(chat_of(CHAT))
    assert error.value.reason == reason


def test_a_sample_longer_than_a_row_is_refused_and_not_cut(tiny_base: Path) -> None:
    encoder = make_encoder(tiny_base, max_seq_len=32)
    with pytest.raises(RowError) as error:
        encoder.encode_one(GeneralRecord(prompt="word " * 40, completion="x"))
    assert error.value.reason == "too_long"


@pytest.mark.parametrize(
    "record",
    [
        GeneralRecord(messages=({"role": "user", "content": "a<|im_end|>b"}, {"role": "assistant", "content": "x"})),
        GeneralRecord(prompt="a", completion="b<|endoftext|>"),
    ],
)
def test_control_tokens_in_a_text_are_refused(encoder: SampleEncoder, record: GeneralRecord) -> None:
    with pytest.raises(RowError) as error:
        encoder.encode_one(record)
    assert error.value.reason == "special_token_in_text"


def test_a_chat_that_starts_with_the_assistant_is_refused(encoder: SampleEncoder) -> None:
    with pytest.raises(RowError) as error:
        encoder.encode_one(chat_of(CHAT[2:]))
    assert error.value.reason == "chat_template"


@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_shifted_by_one_token_are_noticed(encoder: SampleEncoder, shift: int) -> None:
    good = encoder.encode_one(GeneralRecord(prompt="A. red\nAnswer:", completion=" The correct answer is (B)."))
    learned = np.arange(len(good.learned)) >= int(np.argmax(good.learned)) + shift
    texts = list_learned_texts(dataclasses.replace(good, learned=learned), encoder.tokenizer)
    with pytest.raises(RowError, match="labels_do_not_decode"):
        check_answers(texts, [(" The correct answer is (B).<|endoftext|>",)])


def test_a_missing_answer_is_noticed() -> None:
    with pytest.raises(RowError, match="0 labelled runs, expected 1"):
        check_answers([], [("x",)])


def test_a_batch_gives_what_its_rows_give_alone_and_a_refused_row_harms_no_other(encoder: SampleEncoder) -> None:
    records = [
        GeneralRecord(messages=CHAT),
        GeneralRecord(prompt="a<|im_end|>", completion="b"),
        parse_voc_record(make_voc_row(1), TAXONOMY),
        GeneralRecord(prompt="A. red\nAnswer:", completion=" B"),
        GeneralRecord(messages=CHAT[2:]),
        parse_voc_record(make_voc_row(2, words=9), TAXONOMY),
    ]
    together = encoder.encode(records)
    assert [type(sample) is RowError for sample in together] == [False, True, False, False, True, False]
    for record, sample in zip(records, together, strict=True):
        if not isinstance(sample, RowError):
            assert sample.input_ids.tolist() == encoder.encode_one(record).input_ids.tolist()
            assert sample.learned.tolist() == encoder.encode_one(record).learned.tolist()
