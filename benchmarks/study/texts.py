"""General rows about texts and plans: instructions to follow, passages to read, translations, chats."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache

from benchmarks.study.words import LANGUAGES, Phrase, Turns, choose, join_words, list_words, parse_phrase, read_table

_LANGUAGE_NAMES = dict(
    zip(LANGUAGES, ("English", "German", "French", "Spanish", "Italian", "Portuguese", "Dutch", "Polish"), strict=True)
)
_MAX_SENTENCES = 3
_ONE_PASSAGE_RATIO = 0.6


def format_time(minutes: int) -> str:
    """Return minutes after midnight as `h:mm`."""
    return f"{minutes // 60 % 24}:{minutes % 60:02d}"


def _draw_words(rng: random.Random, count: int) -> list[str]:
    return rng.sample(list_words(choose(rng, ("animals", "fruits", "objects", "adjectives"))), count)


def ask_instruction(rng: random.Random) -> Turns:
    """One or two exact operations on a list of words, one per turn."""
    operations: tuple[tuple[str, Callable[[list[str]], str]], ...] = (
        ("Sort these words alphabetically, separated by commas", lambda w: ", ".join(sorted(w))),
        ("Write these words in capital letters, one per line", lambda w: "\n".join(word.upper() for word in w)),
        ("Reverse the order of these words", lambda w: " ".join(reversed(w))),
        (
            "Return a JSON object that maps each of these words to its number of letters",
            lambda w: json.dumps({x: len(x) for x in w}),
        ),
        ("Number these words from 1, one per line", lambda w: "\n".join(f"{n}. {x}" for n, x in enumerate(w, 1))),
        ("Write only the first letters of these words, without spaces", lambda w: "".join(x[0] for x in w)),
        ("Spell each of these words backwards, separated by spaces", lambda w: " ".join(x[::-1] for x in w)),
        (
            "Give the longest of these words (the first one if there are several) and nothing else",
            lambda w: max(w, key=len),
        ),
        ("Make a Markdown table of these words and their lengths", _make_table),
        (
            "Count the vowels (a, e, i, o, u) in each of these words",
            lambda w: "\n".join(f"{x}: {sum(map(x.count, 'aeiou'))}" for x in w),
        ),
    )
    words = _draw_words(rng, rng.randint(4, 10))
    turns = []
    for first, (task, run) in zip((True, False), rng.sample(operations, 1 + int(rng.random() * 2)), strict=False):
        question = (
            f"{task}: {', '.join(words)}."
            if first
            else f"Now do this with the same words: {task[0].lower()}{task[1:]}."
        )
        turns.append((question, run(words)))
    return turns


def _make_table(words: list[str]) -> str:
    return "\n".join(["| word | length |", "|---|---|", *(f"| {word} | {len(word)} |" for word in words)])


def ask_constraints(rng: random.Random) -> Turns:
    """Several conditions at once, checked one after the other."""
    words, letter, size = _draw_words(rng, 9), rng.choice("aeiorn"), rng.randint(5, 7)
    with_letter = [word for word in words if letter in word]
    long = [word for word in with_letter if len(word) >= size]
    question = (
        f"From this list take the words that contain the letter {letter} and have at least {size} letters, "
        f"sort them from z to a, and show your steps: {', '.join(words)}."
    )
    steps = [
        f"Step 1, words with {letter}: {join_words(with_letter) if with_letter else 'none'}.",
        f"Step 2, of these with {size} letters or more: {join_words(long) if long else 'none'}.",
        f"Step 3, from z to a: {', '.join(sorted(long, reverse=True)) or 'nothing is left'}.",
    ]
    return [(question, "\n".join(steps))]


def ask_passage(rng: random.Random) -> Turns:
    """One to four passages about invented places, and questions whose answers one of them states, or does not."""
    city = choose(rng, list_words("city"))
    buildings = rng.sample(list_words("buildings"), 1 if rng.random() < _ONE_PASSAGE_RATIO else rng.randint(2, 4))
    passages, questions = zip(*(_tell_about(rng, building, city) for building in buildings), strict=True)
    asked = rng.sample(questions[int(rng.random() * len(questions))], 1 + int(rng.random() * 3))
    body = "\n\n".join(f"Passage {number}: {text}" for number, text in enumerate(passages, 1))
    lead = choose(rng, ("Answer from the text only.", "Use the text below.", "Read this and answer."))
    return [(f"{lead}\n\n{body}\n\nQuestion: {asked[0][0]}", asked[0][1]), *asked[1:]]


def _tell_about(rng: random.Random, building: str, city: str) -> tuple[str, Turns]:
    """Return a passage about one building, and what can be asked about it."""
    year, opened, fee = rng.randint(1640, 1985), rng.randint(7, 11) * 60, rng.randint(3, 24)
    founder, style, event = (choose(rng, list_words(name)) for name in ("founders", "styles", "events"))
    later, guide, visitors = year + rng.randint(4, 39), choose(rng, list_words("name")), rng.randint(20, 990) * 100
    features = [
        text.format(m=rng.randint(30, 900), n=rng.randint(3, 24))
        for text in rng.sample(list_words("features"), rng.randint(2, 6))
    ]
    facts = {
        **{"building": building, "city": city, "year": year, "founder": founder, "style": style, "event": event},
        **{"later": later, "age": later - year, "visitors": visitors, "fee": fee, "fees": 4 * fee, "guide": guide},
        "opened": format_time(opened),
        "features": " ".join(f"Visitors like to see {feature}." for feature in features),
        "two_features": join_words(features[:2]),
    }
    questions = [(row["question"].format(**facts), row["answer"].format(**facts)) for row in read_table("passages")]
    return " ".join(list_words("passage")).format(**facts), questions


@cache
def _list_translations() -> list[dict[str, Phrase]]:
    return [{code: parse_phrase(row[code]) for code in LANGUAGES} for row in read_table("translations")]


def ask_translation(rng: random.Random) -> Turns:
    """One to three sentences of our own phrase table, from one language into another."""
    source, target = rng.sample(LANGUAGES, 2)
    texts: dict[str, list[str]] = {source: [], target: []}
    for row in rng.sample(_list_translations(), 1 + int(rng.random() * _MAX_SENTENCES)):
        one, other = rng.sample(list_words("name"), 2)
        values = {
            "n": rng.randint(2, 29),
            "m": rng.randint(30, 980),
            "t": format_time(5 * rng.randint(60, 200)),
            "u": format_time(5 * rng.randint(210, 280)),
            "city": choose(rng, list_words("city")),
            "name": one,
            "other": other,
        }
        for code, found in texts.items():
            phrase = row[code]
            found.append(phrase.pattern % tuple(values[slot] for slot in phrase.slots))
    lead = choose(rng, ("Translate from {} into {}:", "Please put this {} text into {}:", "{} to {}:"))
    question = f"{lead.format(_LANGUAGE_NAMES[source], _LANGUAGE_NAMES[target])} {' '.join(texts[source])}"
    return [(question, " ".join(texts[target]))]


def ask_plan(rng: random.Random) -> Turns:
    """Tasks with durations become a timetable; then one more task is added."""
    tasks = rng.sample(list_words("tasks"), rng.randint(3, 8))
    spans = [5 * rng.randint(2, 18) for _ in tasks]
    start, pause = 15 * rng.randint(28, 52), 5 * rng.randint(0, 4)
    listed = "; ".join(f"{task} ({span} min)" for task, span in zip(tasks, spans, strict=True))
    question = (
        f"I start at {format_time(start)} and want to do this in order: {listed}. "
        f"Pauses of {pause} min between. Make a timetable."
    )
    lines, now = [], start
    for task, span in zip(tasks, spans, strict=True):
        lines.append(f"{format_time(now)} - {format_time(now + span)} {task}")
        now += span + pause
    end = now - pause
    turns = [(question, "\n".join([*lines, f"You are done at {format_time(end)}."]))]
    if rng.random() < 0.4:
        late = 5 * rng.randint(1, 12)
        turns.append(
            (
                f"What if I start {late} minutes later?",
                f"Then everything moves by {late} minutes and you are done at {format_time(end + late)}.",
            )
        )
    return turns


def chat_about_cooking(rng: random.Random) -> Turns:
    """A recipe, scaled to the number of guests, with a follow-up."""
    dish, *parts = choose(rng, list_words("dishes")).split(":")
    portions = [part.rsplit(" ", 2) for part in parts]
    turns: Turns = []
    for guests in rng.sample(range(2, 60), rng.randint(1, 3)):
        needed = join_words([f"{int(amount) * guests} {unit} of {what}" for what, unit, amount in portions])
        question = (
            f"{choose(rng, ('Hi!', 'Hello,', 'Hey,'))} I cook {dish} for {guests} people. What do I need?"
            if not turns
            else f"And for {guests}?"
        )
        turns.append((question, f"For {guests} people you need {needed}."))
    return turns


def chat_about_a_trip(rng: random.Random) -> Turns:
    """What to pack for a trip, and what was forgotten."""
    name, trip, city = (
        choose(rng, list_words("name")),
        choose(rng, list_words("trips")),
        choose(rng, list_words("city")),
    )
    items = rng.sample(list_words("items"), rng.randint(5, 8))
    has = items[: rng.randint(1, 3)]
    lead = choose(rng, ("For {} I would pack", "Good choice. For {} take along", "Have fun! Useful for {} are"))
    turns = [
        (
            f"Hi, I am {name}. I plan {trip} near {city}. What should I pack?",
            f"{lead.format(trip)} {join_words(items)}.",
        ),
        (f"I already have these: {join_words(has)}.", f"Then you still need {join_words(items[len(has) :])}."),
    ]
    return [*turns, ("Thanks!", f"You are welcome, {name}. Enjoy {city}!")] if rng.random() < 0.5 else turns
