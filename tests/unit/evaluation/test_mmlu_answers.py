import pytest

from evaluation.mmlu_answers import read_leniently, read_strictly, score_answer


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
        ("A day later it was fine", None, "A"),
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
