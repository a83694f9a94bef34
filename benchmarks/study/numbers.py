"""General rows about numbers, dates and quantities; every answer is computed."""

from __future__ import annotations

import calendar
import math
import random
from datetime import date, timedelta
from fractions import Fraction

from benchmarks.study.words import Turns, choose, list_words, read_table

_ROMAN = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"))
_ROMAN_LOW = ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
LETTERS = "ABCD"


def ask_arithmetic(rng: random.Random) -> Turns:
    """One to three sums, products or quotients, one per turn."""
    turns = []
    for _ in range(1 + int(rng.random() * 3)):
        a, b, c = rng.randint(12, 989), rng.randint(3, 97), rng.randint(2, 500)
        lead = choose(rng, ("What is", "Calculate", "Please work out", "How much is"))
        if rng.random() < 0.5:
            answer = f"{a} * {b} = {a * b}, and {a * b} + {c} = {a * b + c}. The result is {a * b + c}."
            turns.append((f"{lead} {a} * {b} + {c}{'?' if lead != 'Calculate' else '.'}", answer))
        else:
            quotient, rest = divmod(a * 7, b)
            answer = (
                f"{b} goes into {a * 7} {quotient} times, because {b} * {quotient} = {b * quotient}. Remainder: {rest}."
            )
            turns.append((f"Divide {a * 7} by {b}. Give quotient and remainder.", answer))
    return turns


def ask_conversion(rng: random.Random) -> Turns:
    """A conversion of units, with a follow-up in the other direction."""
    row = rng.choice(read_table("units"))
    source, target, factor, offset = row["source"], row["target"], float(row["factor"]), float(row["offset"])
    amount = rng.randint(2, 4000) / rng.choice((1, 2, 4, 10))  # some have decimals
    result = amount * factor + offset
    turns = [
        (
            choose(rng, ("Convert {} {} to {}.", "How many {2} are {0} {1}?")).format(f"{amount:g}", source, target),
            f"{amount:g} {source} are {result:.2f} {target}.",
        )
    ]
    if rng.random() < 0.4:
        back = rng.randint(2, 900)
        turns.append((f"And {back} {target} in {source}?", f"That is {(back - offset) / factor:.2f} {source}."))
    return turns


def ask_number_theory(rng: random.Random) -> Turns:
    """Divisors, multiples, factors, fractions."""
    a, b = rng.randint(12, 960), rng.randint(12, 960)
    kind = int(rng.random() * 3)
    if kind == 0:
        answer = f"The greatest common divisor is {math.gcd(a, b)}; the least common multiple is {math.lcm(a, b)}."
        return [(f"Find the greatest common divisor and the least common multiple of {a} and {b}.", answer)]
    if kind == 1:
        number = a * rng.randint(2, 30)
        factors = factorise(number)
        note = "It is a prime number." if len(factors) == 1 else f"It has {len(factors)} prime factors."
        return [(f"Write {number} as a product of primes.", f"{number} = {' * '.join(map(str, factors))}. {note}")]
    x, y = Fraction(rng.randint(1, 30), rng.randint(2, 31)), Fraction(rng.randint(1, 30), rng.randint(2, 31))
    return [(f"Add the fractions {x} and {y}.", f"{x} + {y} = {x + y}, which is about {float(x + y):.3f}.")]


def factorise(number: int) -> list[int]:
    """Return the prime factors in ascending order."""
    factors, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return [*factors, number] if number > 1 else factors


def _tell(problem: str, /, **facts: object) -> tuple[str, str]:
    """Return the question and the answer of a problem of the table."""
    (row,) = (row for row in read_table("problems") if row["name"] == problem)
    return row["question"].format(**facts), row["answer"].format(**facts)


def ask_word_problem(rng: random.Random) -> Turns:
    """A problem of two to four steps, each one shown."""
    trade, thing = choose(rng, list_words("trades")), choose(rng, list_words("fruits"))
    name, spoiled = choose(rng, list_words("name")), rng.randint(3, 40)
    boxes, each, price, cost = rng.randint(3, 48), rng.randint(4, 36), rng.randint(2, 19), rng.randint(10, 300)
    if rng.random() < 0.5:
        good = boxes * each - spoiled
        goods = {"trade": trade, "thing": thing, "boxes": boxes, "each": each, "total": boxes * each, "good": good}
        money = {"price": price, "cost": cost, "income": good * price, "left": good * price - cost}
        return [_tell("stall", spoiled=spoiled, **goods, **money)]
    x, factor, plus = rng.randint(-20, 60), rng.randint(2, 15), rng.randint(-50, 90)
    shown = {"sign": "+" if plus >= 0 else "-", "plus": abs(plus), "product": factor * x, "result": factor * x + plus}
    return [_tell("equation", name=name, x=x, factor=factor, **shown)]


def ask_motion(rng: random.Random) -> Turns:
    """Two travellers who meet: speeds, distance, time."""
    one, two = rng.sample(list_words("name"), 2)
    v, w, hours = rng.randint(4, 60), rng.randint(4, 60), rng.randint(2, 12)
    sums = {"both": v + w, "distance": (v + w) * hours, "far": v * hours, "near": w * hours}
    return [_tell("motion", one=one, two=two, v=v, w=w, hours=hours, **sums)]


def ask_stem(rng: random.Random) -> Turns:
    """Multiple choice with one computed right option."""
    kind = int(rng.random() * 4)
    a, b = rng.randint(2, 60), rng.randint(2, 40)
    elements = list_words("elements")
    number = 1 + a % len(elements)
    name, right, unit = (
        ("voltage", a * b, " V"), ("energy", a * b * b, " J"), ("density", a, " g/cm3"), ("element", number, ""),
    )[kind]  # fmt: skip
    element, protons = elements[number - 1], f"{number} proton{'s' if number > 1 else ''}"
    words = {"element": element, "name": element.capitalize(), "protons": protons}
    question, why = _tell(name, a=a, b=b, twice=2 * a, product=a * b, right=right, **words)
    options = draw_options(rng, right)
    listed = "\n".join(f"{letter}. {value}{unit}" for letter, value in zip(LETTERS, options, strict=True))
    return [(f"{question}\n{listed}", f"{why} The correct answer is ({LETTERS[options.index(right)]}).")]


def draw_options(rng: random.Random, right: int) -> list[int]:
    """Return four different positive numbers in random order, `right` among them."""
    options = {right}
    while len(options) < len(LETTERS):
        options.add(max(1, right + rng.choice((-1, 1)) * rng.randint(1, 5 + right // 2)))
    return rng.sample(sorted(options), len(LETTERS))


def ask_fact(rng: random.Random) -> Turns:
    """Weekdays, spans between dates, leap years and Roman numerals."""
    day = date(1800, 1, 1) + timedelta(days=rng.randint(0, 110_000))
    kind = int(rng.random() * 3)
    if kind == 0:
        year = "a leap year" if calendar.isleap(day.year) else "not a leap year"
        answer = (
            f"{day.isoformat()} is a {calendar.day_name[day.weekday()]} (Gregorian calendar). {day.year} is {year}."
        )
        return [(f"Which day of the week is {day.isoformat()}, and is its year a leap year?", answer)]
    if kind == 1:
        span = rng.randint(3, 4000)
        return [
            (
                f"How many days are there from {day.isoformat()} to {(day + timedelta(days=span)).isoformat()}?",
                f"There are {span} days, that is {span // 7} weeks and {span % 7} days.",
            )
        ]
    number = rng.randint(1, 3999)
    return [(f"Write {number} in Roman numerals.", f"{number} is {to_roman(number)}.")]


def to_roman(number: int) -> str:
    """Return a number of 1 to 3,999 in Roman numerals."""
    text = ""
    for value, letters in (*_ROMAN, *_ROMAN_LOW):
        count, number = divmod(number, value)
        text += letters * count
    return text
