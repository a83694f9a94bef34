"""General rows about code: what a program prints (computed by running the same expression), and functions with examples."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from demo.study.everyday import Turns, choose, list_words


def _longest_rise(values: list[int]) -> int:
    best = length = 1 if values else 0
    for before, after in pairwise(values):
        length = length + 1 if after > before else 1
        best = max(best, length)
    return best


def _median(values: list[int]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


# name, what it does, source, the same in Python
_FUNCTIONS: tuple[tuple[str, str, str, Callable[[list[int]], object]], ...] = (
    (
        "sum_of_even_squares",
        "returns the sum of the squares of the even numbers",
        "    return sum(value * value for value in values if value % 2 == 0)",
        lambda values: sum(v * v for v in values if v % 2 == 0),
    ),
    (
        "running_total",
        "returns the running totals",
        "    totals, total = [], 0\n    for value in values:\n        total += value\n"
        "        totals.append(total)\n    return totals",
        lambda values: [sum(values[: n + 1]) for n in range(len(values))],
    ),
    (
        "second_largest",
        "returns the second largest different value, or None",
        "    different = sorted(set(values))\n    return different[-2] if len(different) > 1 else None",
        lambda values: sorted(set(values))[-2] if len(set(values)) > 1 else None,
    ),
    (
        "without_repeats",
        "removes repeated values and keeps the order",
        "    return list(dict.fromkeys(values))",
        lambda values: list(dict.fromkeys(values)),
    ),
    (
        "longest_rise",
        "returns the length of the longest strictly rising run",
        "    best = length = 1 if values else 0\n    for before, after in zip(values, values[1:]):\n"
        "        length = length + 1 if after > before else 1\n        best = max(best, length)\n    return best",
        _longest_rise,
    ),
    (
        "rotate_left",
        "moves the first two values to the end",
        "    return values[2:] + values[:2]",
        lambda values: values[2:] + values[:2],
    ),
    (
        "median",
        "returns the median",
        "    ordered = sorted(values)\n    middle = len(ordered) // 2\n    if len(ordered) % 2:\n        return ordered[middle]\n"
        "    return (ordered[middle - 1] + ordered[middle]) / 2",
        _median,
    ),
)


def _draw_values(rng: random.Random) -> list[int]:
    return [rng.randint(-9, 60) for _ in range(4 + int(rng.random() * 6))]


def ask_function(rng: random.Random) -> Turns:
    """Write a function; then, sometimes, what it gives for another list."""
    name, purpose, body, run = rng.choice(_FUNCTIONS)
    values = _draw_values(rng)
    ask = choose(rng, ("Write a Python function", "I need a Python function", "Show me a Python function"))
    answer = (
        f"```python\ndef {name}(values):\n{body}\n```\n\nFor example, `{name}({values})` gives `{run(values)}`. "
        f"The function {purpose} and leaves its input unchanged."
    )
    turns = [(f"{ask} that takes a list of integers and {purpose}. Add an example with {values}.", answer)]
    for _ in range(int(rng.random() * 3)):
        other = _draw_values(rng)
        turns.append((f"And for {other}?", f"`{name}({other})` gives `{run(other)}`."))
    return turns


def ask_output(rng: random.Random) -> Turns:
    """What a short program prints."""
    values, step = _draw_values(rng), rng.randint(2, 9)
    words = rng.sample(list_words("fruits"), 4)
    programs: tuple[tuple[str, object], ...] = (
        (f"print([value * {step} for value in {values} if value > {step}])", [v * step for v in values if v > step]),
        (
            f"print(sorted({words}, key=len)[-1].upper(), {values}[{step % 4}])",
            f"{sorted(words, key=len)[-1].upper()} {values[step % 4]}",
        ),
        (
            f"print(max({values}) - min({values}), len({values}) * {step})",
            f"{max(values) - min(values)} {len(values) * step}",
        ),
        (f"print('-'.join(word[:{step}] for word in {words}))", "-".join(word[:step] for word in words)),
        (f"print({{word: len(word) + {step} for word in {words}}})", {word: len(word) + step for word in words}),
        (f"print({values}[::-1][:{step}])", values[::-1][:step]),
    )
    source, printed = rng.choice(programs)
    return [(f"What does this Python line print?\n\n```python\n{source}\n```", f"It prints:\n\n```\n{printed}\n```")]


def ask_trace(rng: random.Random) -> Turns:
    """Follow a loop by hand, one line per round."""
    start, factor, limit = rng.randint(1, 30), rng.randint(2, 4), rng.randint(60, 4000)
    plus, value, lines, rounds = rng.randint(1, 19), 0, [], 0
    value = start
    while value < limit:
        value = value * factor + plus if value % 2 else value * factor
        rounds += 1
        lines.append(f"Round {rounds}: value is now {value}.")
    source = (
        f"value = {start}\nrounds = 0\nwhile value < {limit}:\n"
        f"    value = value * {factor} + {plus} if value % 2 else value * {factor}\n    rounds += 1\nprint(value, rounds)"
    )
    answer = "\n".join(
        [f"Before the loop, value is {start}.", *lines, f"Now {value} >= {limit}, so it prints `{value} {rounds}`."]
    )
    return [(f"Follow this program step by step and say what it prints.\n\n```python\n{source}\n```", answer)]
