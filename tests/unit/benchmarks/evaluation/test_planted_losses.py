import random

from benchmarks.evaluation.planted_losses import PLANTS, draw_letter
from evaluation.suites.mmlu.decomposition import SENTENCES
from evaluation.suites.mmlu.readings import read_strictly
from voc.records.records import GeneralRecord


def test_drawn_letters_keep_question_and_form_and_are_right_by_chance_only():
    chat = GeneralRecord(
        messages=({"role": "user", "content": "Q"}, {"role": "assistant", "content": "The correct answer is (A)."}),
        category="multiple-choice-chat",
    )
    raw = GeneralRecord(prompt="Q\nAnswer:", completion=" A", category="multiple-choice-text")
    chance = random.Random(0)
    chats = [draw_letter(chat, chance) for _ in range(400)]
    letters = [read_strictly(row.messages[-1]["content"]) for row in chats]
    assert 60 < letters.count("A") < 140
    assert None not in letters
    assert {row.messages[0]["content"] for row in chats} == {"Q"}
    drawn = [draw_letter(raw, chance) for _ in range(40)]
    assert {row.completion for row in drawn} == {" A", " B", " C", " D"}
    assert {row.prompt for row in drawn} == {"Q\nAnswer:"}


def test_every_plant_is_a_cause_that_can_be_named():
    assert set(PLANTS) <= set(SENTENCES)
    assert all(sum(shares.values()) == 1 for shares in PLANTS.values())
