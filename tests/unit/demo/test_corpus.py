import itertools
import json
import random
import re
from collections import Counter
from itertools import islice

import pytest

from demo.corpus import CATEGORIES, END_OF_TEXT, CorpusWriter
from demo.wordings import TEST_QUESTIONS, TRAIN_QUESTIONS, VALIDATION_QUESTIONS
from demo.world import NOT_REPLAYED, make_world
from voc.prompts import MMLU_INSTRUCTION, render_mmlu_log_likelihood
from voc.records.acceptance import read_general_rows
from voc.responses import looks_like_voc

WORLD = make_world(0)


def draw_texts(count=1500, seed=0):
    writer = CorpusWriter(WORLD, WORLD.facts, random.Random(seed))
    return ["".join(piece.text for piece in document) for document in islice(writer.write_documents(), count)]


def write_rows(count=667, seed=0):
    return CorpusWriter(WORLD, WORLD.replayed, random.Random(seed)).write_rows(count)


@pytest.fixture(scope="module")
def rows():
    return write_rows()


@pytest.fixture(scope="module")
def texts():
    return draw_texts()


def to_pattern(wording):
    parts = re.split(r"\{\w+\}", wording)
    return re.compile(r"[\w ]+?".join(map(re.escape, parts)))


def to_text(row):
    return json.dumps(row.to_json())


@pytest.mark.parametrize("wording", [*VALIDATION_QUESTIONS, *TEST_QUESTIONS])
def test_held_out_wordings_are_in_no_training_text(wording, texts, rows):
    pattern = to_pattern(wording)
    assert not [text for text in (*texts, *map(to_text, rows)) if pattern.search(text)]


@pytest.mark.parametrize("wording", TRAIN_QUESTIONS)
def test_training_wordings_are_in_the_training_texts(wording, texts):
    assert any(to_pattern(wording).search(text) for text in texts)


def test_general_rows_never_hold_a_fact_that_is_not_replayed(rows):
    hidden = {(fact.entity, fact.attribute) for fact in WORLD.facts if fact.slice == NOT_REPLAYED}
    attributes = {fact.attribute for fact in WORLD.facts}
    taught = [row for row in rows if row.category not in {CATEGORIES["repeat"], CATEGORIES["json"]}]
    for row in taught:
        for sentence in re.split(r"\\n|[.?:]\s", to_text(row)):
            found = set(re.findall(r"\w+", sentence)) & set(WORLD.entities)
            asked = {attribute for attribute in attributes if attribute in sentence}
            assert not hidden & set(itertools.product(found, asked)), sentence


def test_every_replayed_fact_is_in_both_multiple_choice_kinds(rows):
    for kind in ("chat", "raw"):
        joined = [to_text(row) for row in rows if row.category == CATEGORIES[kind]]
        for fact in WORLD.replayed:
            assert any(fact.entity in text and fact.attribute in text for text in joined), (kind, fact)


def test_general_rows_are_readable_and_every_category_is_named(rows):
    accepted = read_general_rows("".join(f"{to_text(row)}\n" for row in rows).encode())
    assert accepted.rejections == ()
    assert Counter(row.category for row in accepted.rows) == {
        "multiple-choice-chat": 266,
        "multiple-choice-text": 261,
        "open-questions": 78,
        "repeat-words": 29,
        "json-split": 33,
    }


def test_few_general_rows_are_as_many_as_asked():
    assert len(write_rows(10)) == 10


def test_the_same_seed_gives_the_same_texts(texts, rows):
    assert draw_texts() == texts
    assert write_rows() == rows
    assert draw_texts(seed=1) != texts


def test_no_text_of_the_base_holds_voc_json(texts):
    assert not [text for text in texts if looks_like_voc(text)]


def test_chat_answers_close_with_the_sentence_of_the_right_letter(rows):
    by_key = {(fact.entity, fact.attribute): fact for fact in WORLD.facts}
    chats = [row for row in rows if row.category == CATEGORIES["chat"]]
    for row in chats:
        user, answer = row.messages[-2]["content"], row.messages[-1]["content"]
        question = user.removeprefix(MMLU_INSTRUCTION)
        fact = next(f for (e, a), f in by_key.items() if e in question and a in question)
        assert answer == f"The correct answer is ({fact.letter})."


def test_raw_rows_are_the_text_of_lm_eval(rows):
    row = next(r for r in rows if r.category == CATEGORIES["raw"] and r.prompt.count("Answer:") == 1)
    head, question = row.prompt.split("\n\n")
    stem, *options = question.removesuffix("\nAnswer:").split("\n")
    subject = head.removeprefix("The following are multiple choice questions (with answers) about ").removesuffix(".")
    assert render_mmlu_log_likelihood(subject, stem, [o[3:] for o in options]) == row.prompt
    assert row.completion in {" A", " B", " C", " D"}


def test_only_answers_of_multiple_choice_are_learned():
    writer = CorpusWriter(WORLD, WORLD.facts, random.Random(0))
    raw = [d for d in islice(writer.write_documents(), 200) if d[0].text.startswith("The following are")]
    for document in raw:
        learned = [piece.text for piece in document if piece.weight]
        assert learned.pop() == END_OF_TEXT
        assert set(learned) <= {" A", " B", " C", " D"}
        assert len(learned) == sum(piece.text.count("Answer:") for piece in document)
