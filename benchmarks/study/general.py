"""Writes the general rows: chats in the categories of the closed service, computed and true, without customer feedback."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate

from benchmarks.study import code, numbers, texts
from benchmarks.study.distinct import SeenTexts, split_words
from benchmarks.study.words import Turns, choose
from voc.records.records import GeneralRecord

# category, share, writer
WRITERS: tuple[tuple[str, float, Callable[[random.Random], Turns]], ...] = (
    ("math", 0.06, numbers.ask_arithmetic),
    ("math", 0.04, numbers.ask_conversion),
    ("math", 0.04, numbers.ask_number_theory),
    ("reasoning-math", 0.06, numbers.ask_word_problem),
    ("reasoning-math", 0.05, numbers.ask_motion),
    ("stem", 0.06, numbers.ask_stem),
    ("factuality", 0.05, numbers.ask_fact),
    ("code", 0.06, code.ask_function),
    ("code", 0.05, code.ask_output),
    ("reasoning-code", 0.06, code.ask_trace),
    ("instruction-following", 0.12, texts.ask_instruction),
    ("reasoning-instruction-following", 0.06, texts.ask_constraints),
    ("rag", 0.1, texts.ask_passage),
    ("translation", 0.08, texts.ask_translation),
    ("planning", 0.05, texts.ask_plan),
    ("chat", 0.01, texts.chat_about_cooking),
    ("chat", 0.05, texts.chat_about_a_trip),
)
_SYSTEM_RATIO = 0.3
_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "Be brief and correct.",
    "Answer in the language of the user.",
    "You are a patient teacher.",
    "Think first, then answer.",
)


def write_general(seed: int, seen: SeenTexts) -> Iterator[GeneralRecord]:
    """Give distinct chats without end."""
    rng = random.Random(f"{seed}/general")
    shares = list(accumulate(share for _, share, _ in WRITERS))
    while True:
        category, _, write = WRITERS[min(bisect(shares, rng.random() * shares[-1]), len(WRITERS) - 1)]
        turns = write(rng)
        if not seen.add(split_words(" ".join(text for turn in turns for text in turn))):
            continue
        messages = []
        if rng.random() < _SYSTEM_RATIO:
            messages.append({"role": "system", "content": choose(rng, _SYSTEM_PROMPTS)})
        for question, answer in turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield GeneralRecord(messages=tuple(messages), category=category)
