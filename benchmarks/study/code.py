"""General rows about code: programs and functions with what they print, which is computed by running them."""

from __future__ import annotations

import contextlib
import io
import random

from benchmarks.study.words import Turns, choose, list_words, read_table


def run_program(source: str) -> str:
    """Return what a program of our own templates prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(source, {})  # noqa: S102
    return printed.getvalue().strip()


def _draw_values(rng: random.Random) -> list[int]:
    return [rng.randint(-9, 60) for _ in range(4 + int(rng.random() * 6))]


def ask_function(rng: random.Random) -> Turns:
    """Write a function; then, sometimes, what it gives for another list."""
    function = rng.choice(read_table("functions"))
    name, purpose = function["name"], function["purpose"]
    source = f"def {name}(values):\n{function['body']}\n"
    values = _draw_values(rng)
    ask = choose(rng, ("Write a Python function", "I need a Python function", "Show me a Python function"))

    def show(given: list[int]) -> str:
        return f"`{name}({given})` gives `{run_program(f'{source}print({name}({given}))')}`."

    answer = (
        f"```python\n{source}```\n\nFor example, {show(values)} The function {purpose} and leaves its input unchanged."
    )
    turns = [(f"{ask} that takes a list of integers and {purpose}. Add an example with {values}.", answer)]
    for _ in range(int(rng.random() * 3)):
        other = _draw_values(rng)
        turns.append((f"And for {other}?", show(other)))
    return turns


def ask_output(rng: random.Random) -> Turns:
    """What a short program prints."""
    values, step = _draw_values(rng), rng.randint(2, 9)
    words = rng.sample(list_words("fruits"), 4)
    programs = (
        f"print([value * {step} for value in {values} if value > {step}])",
        f"print(sorted({words}, key=len)[-1].upper(), {values}[{step % 4}])",
        f"print(max({values}) - min({values}), len({values}) * {step})",
        f"print('-'.join(word[:{step}] for word in {words}))",
        f"print({{word: len(word) + {step} for word in {words}}})",
        f"print({values}[::-1][:{step}])",
    )
    source = rng.choice(programs)
    printed = run_program(source)
    return [(f"What does this Python line print?\n\n```python\n{source}\n```", f"It prints:\n\n```\n{printed}\n```")]


def ask_trace(rng: random.Random) -> Turns:
    """Follow a loop by hand, one line per round."""
    start, factor, limit = rng.randint(1, 30), rng.randint(2, 4), rng.randint(60, 4000)
    plus, value = rng.randint(1, 19), start
    lines: list[str] = []
    while value < limit:
        value = value * factor + plus if value % 2 else value * factor
        lines.append(f"Round {len(lines) + 1}: value is now {value}.")
    source = (
        f"value = {start}\nrounds = 0\nwhile value < {limit}:\n"
        f"    value = value * {factor} + {plus} if value % 2 else value * {factor}\n    rounds += 1\nprint(value, rounds)"
    )
    end = f"Now {value} >= {limit}, so it prints `{value} {len(lines)}`."
    answer = "\n".join([f"Before the loop, value is {start}.", *lines, end])
    return [(f"Follow this program step by step and say what it prints.\n\n```python\n{source}\n```", answer)]
