"""The small parts of the study corpus: words, slips, distinct texts, computed answers."""

import ast
import contextlib
import io
import random
import re
from datetime import date
from itertools import pairwise

import pytest

from benchmarks.study.code import ask_function, ask_output, ask_trace
from benchmarks.study.distinct import NearTexts, SeenTexts, list_shingles, split_words
from benchmarks.study.general import WRITERS
from benchmarks.study.numbers import ask_arithmetic, ask_fact, ask_stem, factorise, to_roman
from benchmarks.study.taxonomy import EMOTIONS, KINDS, list_topics, weigh_topics
from benchmarks.study.texts import ask_instruction
from benchmarks.study.typos import add_typos
from benchmarks.study.words import LANGUAGES, Phrase, parse_phrase, read_lists, read_table

KNOWN_SLOTS = {"n", "t", "v", "order", "phone", "mail", "city", "name"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_can_talk_about_every_issue_in_every_mood(code):
    lists = read_lists(code)
    issues = {row["slug"] for row in read_table("issues")}
    assert set(lists["predicates"]) == issues
    assert all(len(set(wordings)) >= 3 for wordings in lists["predicates"].values())
    assert set(lists["openers"]) == {"any", *EMOTIONS}
    assert set(lists["more"]) == {"negative", "positive", "wish", "story"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_slot_of_a_language_can_be_filled(code):
    lists = read_lists(code)
    known = KNOWN_SLOTS | set(lists["slots"])
    for section in ("predicates", "openers", "tails", "more", "frame", "unlabelled"):
        for texts in lists[section].values():
            for text in texts:
                assert set(parse_phrase(text).slots) <= known, text
                assert text.count("{") == text.count("}") == len(parse_phrase(text).slots), text


def test_only_openers_and_tails_may_say_nothing():
    for code in LANGUAGES:
        for section in ("predicates", "more", "frame", "unlabelled", "slots"):
            assert all("" not in texts for texts in read_lists(code)[section].values()), (code, section)


def test_nouns_are_different_and_there_in_every_language():
    for code in LANGUAGES:
        nouns = [row[code] for row in read_table("aspects")]
        assert all(nouns)
        assert len(set(nouns)) == len(nouns), code


def test_an_aspect_excludes_only_issues_of_its_kind():
    for row in read_table("aspects"):
        assert set(row["without"].split()) <= set(KINDS[row["kind"]].split()), row["L3"]


def test_translations_use_the_same_slots_in_every_language():
    for row in read_table("translations"):
        slots = [sorted(parse_phrase(row[code]).slots) for code in LANGUAGES]
        assert all(found == slots[0] for found in slots), row["en"]


def test_a_phrase_keeps_percent_signs():
    assert parse_phrase("{n} % of {city}") == Phrase("%s %% of %s", ("n", "city"))


def test_weights_fall_and_sum_to_one():
    ranked, cumulative = weigh_topics(0)
    steps = [after - before for before, after in zip([0, *cumulative], cumulative, strict=False)]
    assert len(ranked) == len(set(map(id, ranked))) == len(list_topics())
    assert cumulative[-1] == pytest.approx(1)
    assert all(before > after > 0 for before, after in pairwise(steps))


def test_typos_damage_words_but_no_numbers_addresses_or_short_words():
    for seed in range(200):
        rng = random.Random(seed)
        assert add_typos("NF-1234567 at me@example.com is 30 km", 3, rng) == "NF-1234567 at me@example.com is 30 km"
        assert add_typos("the battery", 1, rng).startswith("the ")


def test_most_typos_change_the_text():
    changed = sum(
        add_typos("the battery is empty", 1, random.Random(seed)) != "the battery is empty" for seed in range(200)
    )
    assert changed > 190


def test_seen_texts_know_what_they_saw_whatever_its_case_and_punctuation():
    seen = SeenTexts()
    assert seen.add(split_words("The battery, dead!"))
    assert not seen.add(split_words("the BATTERY dead 😡"))
    assert seen.add(split_words("the battery is dead"))


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("one two three four five six seven eight nine ten eleven", True),
        ("zero one two three four five six seven eight nine ten eleven", True),
        ("one two three four five X seven eight nine ten eleven", False),
        ("one two", False),
        ("", False),
    ],
)
def test_near_texts_are_told_by_their_word_3_grams(text, near):
    texts = NearTexts()
    texts.add(split_words("One, two three four five six seven eight nine ten eleven."))
    assert texts.is_near(split_words(text)) is near


def test_a_text_of_fewer_than_three_words_is_one_shingle():
    assert list_shingles(["a", "b"]) == {("a", "b")}
    assert list_shingles([]) == {()}


@pytest.mark.parametrize(("number", "numeral"), [(1, "I"), (4, "IV"), (1994, "MCMXCIV"), (3999, "MMMCMXCIX")])
def test_roman_numerals(number, numeral):
    assert to_roman(number) == numeral


@pytest.mark.parametrize(("number", "factors"), [(2, [2]), (97, [97]), (360, [2, 2, 2, 3, 3, 5])])
def test_prime_factors(number, factors):
    assert factorise(number) == factors


def run_program(source):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "row", "exec"), {})  # noqa: S102 - a program of our own templates
    return printed.getvalue().strip()


@pytest.mark.parametrize("seed", range(60))
def test_programs_print_what_their_rows_say(seed):
    rng = random.Random(seed)
    ((question, answer),) = ask_output(rng)
    source = re.search(r"```python\n(.*)\n```", question, re.S).group(1)
    assert f"```\n{run_program(source)}\n```" in answer
    ((question, answer),) = ask_trace(rng)
    source = re.search(r"```python\n(.*)\n```", question, re.S).group(1)
    assert answer.endswith(f"so it prints `{run_program(source)}`.")


@pytest.mark.parametrize("seed", range(60))
def test_functions_give_what_their_rows_say(seed):
    turns = ask_function(random.Random(seed))
    source = re.search(r"```python\n(.*?)\n```", turns[0][1], re.S).group(1)
    for _, answer in turns:
        for call, value in re.findall(r"`(\w+\(\[.*?\]\))` gives `(.*?)`", answer):
            assert run_program(f"{source}\nprint({call})") == value


@pytest.mark.parametrize("seed", range(60))
def test_arithmetic_is_right(seed):
    for _, answer in ask_arithmetic(random.Random(seed)):
        for left, sign, right, result in re.findall(r"(\d+) ([*+]) (\d+) = (\d+)", answer):
            assert {"*": int(left) * int(right), "+": int(left) + int(right)}[sign] == int(result)


@pytest.mark.parametrize("seed", range(60))
def test_one_option_of_a_multiple_choice_question_is_the_computed_one(seed):
    ((question, answer),) = ask_stem(random.Random(seed))
    options = dict(re.findall(r"^([A-D])\. (\d+)", question, re.M))
    right = options[re.search(r"The correct answer is \((.)\)\.$", answer).group(1)]
    assert len(set(options.values())) == 4
    assert right in re.findall(r"\d+", answer)


@pytest.mark.parametrize("seed", range(60))
def test_weekdays_are_right(seed):
    ((question, answer),) = ask_fact(random.Random(seed))
    if "day of the week" in question:
        day = date.fromisoformat(re.search(r"\d{4}-\d\d-\d\d", question).group())
        assert day.strftime("%A") in answer


@pytest.mark.parametrize("seed", range(20))
def test_an_instruction_about_json_is_answered_in_json(seed):
    turns = ask_instruction(random.Random(seed))
    for question, answer in turns:
        if "json object" in question.casefold():
            assert all(len(word) == size for word, size in ast.literal_eval(answer).items())


def test_every_writer_says_something_in_every_turn():
    for _, share, write in WRITERS:
        assert share > 0
        for seed in range(50):
            assert all(question.strip() and answer.strip() for question, answer in write(random.Random(seed)))
