import time

import pytest

from evaluation.suites.mmlu.readings import (
    describe_answer,
    is_refusal,
    leaks_schema,
    read_leniently,
    read_strictly,
    score_answer,
    score_letter,
)


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        ("First this. The correct answer is (B).", "B", "B"),
        ("The correct answer is (A). No: The correct answer is (C).", "C", "C"),
        ("The correct answer is (B)", None, "B"),
        ("The correct answer is B.", None, "B"),
        ("the correct answer is (b).", None, None),
        ("The correct answer is (E).", None, None),
        ("The correct answer is (X).", None, None),
        ("Answer: C", None, "C"),
        ("The answer is **D**", None, "D"),
        ("B", None, "B"),
        ("(C) because of that", None, "C"),
        ("B. the second", None, "B"),
        ("A day later it was fine", None, None),
        ("  **B**\nbecause", None, "B"),
        ("It is\nC", None, "C"),
        ("Apples", None, None),
        ("I think so", None, None),
        ('[{"content": "x", "L1": "B"}]', None, None),
        ("", None, None),
    ],
)
def test_strict_takes_the_closing_sentence_and_lenient_the_usual_forms(text, strict, lenient):
    assert read_strictly(text) == strict
    assert read_leniently(text) == lenient


def test_only_the_strict_reading_scores():
    assert score_answer({"answer": "B"}, ["The correct answer is (B)."]) == {"acc": 1.0}
    assert score_answer({"answer": "B"}, ["Answer: B"]) == {"acc": 0.0}


def test_a_letter_scores_alone():
    assert score_letter({"answer": "B"}, [" B"]) == {"acc": 1.0}
    assert score_letter({"answer": "B"}, ["Because"]) == {"acc": 0.0}


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("[]", True),
        (' [{"content": "x", "L1": "a", "L2": "b", "L3": "c", "L4": "d", "emotion": "sad"}]', True),
        ('{"content": "x", "L1', False),
        ('{"content": "x", "L1": ', True),
        ("The set [] is empty. The correct answer is (A).", False),
        ("[1, 2]", False),
        ("The correct answer is (A).", False),
    ],
)
def test_a_leak_parses_as_voc_json_or_carries_its_keys(text, leaks):
    assert leaks_schema(text) is leaks


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("As an AI language model, I have no opinion.", True),
        ("I cannot answer this.", True),
        ("It cannot be A. The correct answer is (B).", False),
        ("x" * 500 + " I cannot answer this.", False),
    ],
)
def test_refusals_are_read_at_the_start(text, refuses):
    assert is_refusal(text) is refuses


@pytest.mark.parametrize(
    ("text", "finish_reason", "kind"),
    [
        ("The correct answer is (B).", "stop", "right"),
        ("The correct answer is (B).", "length", "right"),
        ("I'm sorry. The correct answer is (C).", "stop", "wrong_letter"),
        ('[{"content": "x", "L1": "The answer is B', "length", "schema_leak"),
        ("I cannot answer that", "length", "refusal"),
        ("First, we", "length", "truncated"),
        (" \n", "stop", "empty"),
        ("Answer: B", "stop", "other_form"),
        ("Who knows", "stop", "no_letter"),
    ],
)
def test_every_answer_is_of_one_kind(text, finish_reason, kind):
    assert describe_answer(text, finish_reason, "B")["kind"] == kind


@pytest.mark.parametrize("text", [" " * 5_000_000, "answer" + " " * 5_000_000 + "x", "\n" * 5_000_000, "[" * 3_000_000])
def test_a_huge_answer_is_read_in_seconds(text):
    start = time.monotonic()
    assert describe_answer(text, "length", "B")["strict"] is None
    assert time.monotonic() - start < 20
