import pytest

from evaluation.suites.lm_eval.scoring import (
    ChoiceMissingError,
    ScoredQuestion,
    describe_request,
    list_scoring_problems,
    read_batch,
)

CHOICES = (" A", " B")
BATCH = [ScoredQuestion("q0", [1, 2], (7, 8), CHOICES), ScoredQuestion("q1", [3], (7, 8), CHOICES)]


def answer(*tops):
    return {
        "choices": [
            {"index": i, "logprobs": {"tokens": ["token_id:8"], "top_logprobs": [top]}} for i, top in enumerate(tops)
        ]
    }


def test_requests_ask_for_the_next_token_only():
    ids, top = (describe_request(way, BATCH) for way in ("logprob_token_ids", "top_logprobs"))
    assert (ids["prompt"], ids["max_tokens"], ids["logprob_token_ids"]) == ([[1, 2], [3]], 1, [7, 8])
    assert top["logprobs"] == 20
    assert "logprob_token_ids" not in top


def test_choices_are_read_by_index_and_by_id_or_text():
    found = answer({"token_id:7": -2.0, "token_id:8": -1.0}, {" A": -0.5, " B": -3.0, "x": -9.0})
    found["choices"].reverse()
    assert read_batch(found, BATCH) == {"q0": [(-2.0, False), (-1.0, True)], "q1": [(-0.5, False), (-3.0, False)]}


@pytest.mark.parametrize("logprobs", [None, {}, {"top_logprobs": [None]}, {"top_logprobs": [{"token_id:7": -1.0}]}])
def test_a_missing_choice_is_named(logprobs):
    found = {"choices": [{"index": 0, "logprobs": logprobs}]}
    with pytest.raises(ChoiceMissingError, match="q0: no log-probability of"):
        read_batch(found, BATCH[:1])


def test_ways_may_differ_neither_between_models_nor_inside_one():
    assert list_scoring_problems({"base": ["echo", "echo"], "mix": ["echo"]}, "mmlu", "evaluation.mmlu.scoring") == []
    assert list_scoring_problems({}, "mmlu", "evaluation.mmlu.scoring") == []
    assert (
        "base: echo; mix: top_logprobs"
        in list_scoring_problems({"base": ["echo"], "mix": ["top_logprobs"]}, "mmlu", "evaluation.mmlu.scoring")[0]
    )
    assert (
        "base: echo, top_logprobs"
        in list_scoring_problems({"base": ["echo", "top_logprobs"]}, "mmlu", "evaluation.mmlu.scoring")[0]
    )
