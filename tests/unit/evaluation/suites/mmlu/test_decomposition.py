"""Planted losses are named for what they are."""

import pytest

from evaluation.suites.mmlu.decomposition import decompose, judge_form, judge_knowledge, list_alarms, name_cause
from evaluation.suites.mmlu.general import GROUPS, find_group
from tests.unit.evaluation.planted_answers import LEAK, plant, questions, write_sentence
from voc.errors import CoverageError

NUM = 400
BASE = plant(NUM, known=0.9)
CHANCE = 0.25


def run(candidate, reference=BASE, num=NUM):
    return decompose(candidate, reference, questions(num), num_resamples=300, confidence=0.95, seed=0)


@pytest.mark.parametrize(
    ("known", "write", "finish_reason", "cause"),
    [
        (0.9, write_sentence, "stop", "none"),
        (0.9, lambda letter: LEAK, "length", "format_collapsed"),
        (0.9, lambda letter: f"Answer: {letter}", "stop", "format_collapsed"),
        (0.9, lambda letter: "I'm sorry, I can't answer.", "stop", "format_collapsed"),
        (0.9, lambda letter: "", "stop", "format_collapsed"),
        (0.9, lambda letter: write_sentence("ABCD"[("ABCD".index(letter) + 1) % 4]), "stop", "answers_wrong"),
        (CHANCE, write_sentence, "stop", "knowledge_lost"),
        (CHANCE, lambda letter: LEAK, "length", "both"),
    ],
)
def test_a_planted_loss_gets_its_name(known, write, finish_reason, cause):
    found = run(plant(NUM, known=known, write=write, finish_reason=finish_reason))
    assert found["cause"] == cause
    assert {part["n"] for part in found["groups"].values()} == {NUM // 4}


def test_few_questions_name_no_cause():
    few = plant(12, known=0.9)
    assert run(plant(12, known=0.7, seed=3), few, 12)["cause"] == "unclear"


def test_a_collapse_is_seen_where_the_base_had_little_left_to_lose_in_writing():
    """The tax is 0 here: both lost the same number of right answers."""
    base = plant(NUM, known=0.75, write=lambda letter: write_sentence("A"))
    found = run(plant(NUM, known=0.5, write=lambda letter: LEAK), base)
    assert found["figures"]["format_tax"]["value"] == pytest.approx(0, abs=0.05)
    assert found["cause"] == "both"


def test_rates_and_lost_answers_say_how_the_form_failed():
    found = run(plant(NUM, known=0.9, write=lambda letter: LEAK if letter in "AB" else "I cannot answer."))
    figures = found["figures"]
    assert figures["schema_leak_change"]["value"] + figures["refusal_change"]["value"] == pytest.approx(1)
    assert set(found["lost_answers"]) == {"schema_leak", "refusal"}
    lost = sum(entry["count"] for entry in found["lost_answers"].values())
    assert lost == figures["generative_change"]["lost"] == round(-figures["generative_change"]["value"] * NUM)
    assert all(entry["still_known"] == entry["count"] for entry in found["lost_answers"].values())
    cut = run(plant(NUM, known=0.9, write=lambda letter: "First, we", finish_reason="length"))
    assert cut["figures"]["truncated_change"]["value"] == 1
    assert list(cut["lost_answers"]) == ["truncated"]


def test_the_letter_reading_can_contradict_and_is_heard():
    forgetful = plant(NUM, known=CHANCE)
    candidate = type(forgetful)(forgetful.log_likelihood, BASE.generative, BASE.letter)
    found = run(candidate)
    assert found["cause"] == "knowledge_lost"
    assert "letter-constrained reading says: knowledge kept" in found["sentence"]


def test_parts_are_groups_and_subjects_and_their_intervals_are_wider():
    many = 4 * NUM
    found = run(plant(many, known=0.9, write=lambda letter: LEAK), plant(many, known=0.9), many)
    assert set(found["groups"]) == {"stem", "humanities", "social_sciences", "other"}
    assert set(found["subjects"]) == {"virology", "astronomy", "philosophy", "sociology"}
    assert found["subjects"]["virology"]["cause"] == "format_collapsed"
    alone = run(plant(NUM, known=0.9), plant(NUM, known=0.9), NUM)["figures"]["knowledge_change"]
    part = found["groups"]["stem"]["knowledge_change"]
    assert (part["n"], part["value"]) == (alone["n"], alone["value"])
    assert part["high"] - part["low"] > alone["high"] - alone["low"]
    few = run(plant(NUM, known=0.9, write=lambda letter: LEAK))["subjects"]["virology"]
    assert (few["cause"], few["knowledge"], few["form"]) == ("unclear", "unclear", "collapsed")


def test_quotes_are_those_the_model_is_surest_about():
    found = run(plant(NUM, known=0.9, write=lambda letter: LEAK + "x" * 700))
    leaks = [quote for quote in found["quotes"] if quote["kind"] == "schema_leak"]
    assert len(leaks) == 2
    known = [row for row, sample in enumerate(BASE.log_likelihood) if sample["correct"]]
    assert [quote["custom_id"] for quote in leaks] == [f"q{row}" for row in known[:2]]
    assert leaks[0]["margin"] >= leaks[1]["margin"] > 0
    assert leaks[0]["text"].startswith(LEAK)
    assert leaks[0]["text"].endswith(f"[cut: {len(LEAK) + 700} characters]")
    assert "The correct answer is" in leaks[0]["base_text"]
    assert leaks[0]["question"] == f"What is {known[0]}?"


def test_forgotten_questions_are_quoted_by_how_sure_the_base_was():
    found = run(plant(NUM, known=0.0))
    quotes = [quote for quote in found["quotes"] if quote["kind"] == "forgotten"]
    assert [quote["known"] for quote in quotes] == [False, False]
    assert all(quote["margin"] < 0 for quote in quotes)
    known = [row for row, sample in enumerate(BASE.log_likelihood) if sample["correct"]]
    assert quotes[0]["custom_id"] == f"q{known[0]}"


def test_alarms_name_reading_and_part():
    alarms = list_alarms(plant(NUM, known=0.9, write=lambda letter: LEAK), 0.95)
    assert {alarm["reading"] for alarm in alarms} == {"generative_strict"}
    assert [alarm["scope"] for alarm in alarms].count("subject") == 4
    assert list_alarms(BASE, 0.95) == []


def test_mixed_ways_of_scoring_are_refused():
    with pytest.raises(CoverageError, match="different ways"):
        run(plant(NUM, known=0.9, scoring="echo"))


@pytest.mark.parametrize(
    ("value", "low", "high", "judged"),
    [
        (-0.02, -0.03, -0.01, "lost"),
        (-0.019, -0.03, -0.01, "kept"),
        (-0.04, -0.09, 0.01, "unclear"),
        (0.1, 0.05, 0.15, "kept"),
        (0.0, -0.05, 0.05, "unclear"),
    ],
)
def test_knowledge_is_judged_by_the_stated_limits(value, low, high, judged):
    assert judge_knowledge({"value": value, "low": low, "high": high}) == judged


def _change(value, low, high):
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("rise", "tax", "judged"),
    [
        (_change(0.02, 0.01, 0.03), _change(0, 0, 0), "collapsed"),
        (_change(0.03, -0.01, 0.07), _change(0, 0, 0), "unclear"),
        (_change(0.0, -0.01, 0.01), _change(0.02, 0.01, 0.03), "answers_wrong"),
        (_change(0.0, -0.01, 0.01), _change(0.02, -0.01, 0.05), "kept"),
    ],
)
def test_form_is_judged_by_the_stated_limits(rise, tax, judged):
    assert judge_form({"extraction_failure_change": rise, "format_tax": tax}) == judged


def test_an_unclear_cause_says_what_is_known():
    still = _change(0, -0.01, 0.01)
    figures = {
        "knowledge_change": still,
        "letter_change": still,
        "extraction_failure_change": _change(0.03, -0.01, 0.07),
        "format_tax": still,
    }
    assert name_cause(figures)["sentence"] == (
        "undecided: knowledge kept, form unclear; log-likelihood accuracy +0.000, "
        "answers without the closing sentence +0.030"
    )


def test_the_groups_are_those_of_lm_eval():
    from pathlib import Path

    import lm_eval
    import yaml

    folder = Path(lm_eval.__file__).parent / "tasks" / "mmlu" / "default"
    for path in folder.glob("mmlu_*.yaml"):
        task = yaml.safe_load(path.read_text())
        assert task["tag"] == f"mmlu_{find_group(task['dataset_name'])}_tasks"
    assert sum(map(len, GROUPS.values())) == 57
    assert find_group("high school physics") == "stem"
    assert find_group("colours") is None
