"""Answers of models whose loss is planted: what each of them would log, and with which words."""

import random

from evaluation.suites.mmlu.general import GeneralAnswers
from evaluation.suites.mmlu.readings import describe_answer

SUBJECTS = ("virology", "astronomy", "philosophy", "sociology")
LETTERS = "ABCD"
LEAK = '[{"content": "which planet", "L1": "Delivery", "L2": "Time"'


def write_sentence(letter):
    return f"Let me think. The correct answer is ({letter})."


def plant(num, *, known, write=write_sentence, finish_reason="stop", scoring="logprob_token_ids", seed=0):
    """Return answers to `num` questions.

    Args:
        num: Questions.
        known: Share of questions whose letter the model has; on the others it has a fixed wrong one.
        write: From the letter it has to the text it writes.
        finish_reason: Of every text.
        scoring: Way of scoring.
        seed: Which questions are known.
    """
    generator = random.Random(seed)
    log_likelihood, generative, letters = [], [], []
    for i in range(num):
        answer = LETTERS[i % 4]
        has = answer if generator.random() < known else LETTERS[(i + 1) % 4]
        item = {"custom_id": f"q{i}", "subject": SUBJECTS[i % len(SUBJECTS)], "slice": None, "answer": answer}
        scores = [-0.1 - i / 1000 if letter == has else -3.0 for letter in LETTERS]
        is_known = has == answer
        log_likelihood.append(
            {**item, "prediction": has, "log_probabilities": scores, "scoring": scoring, "correct": is_known}
        )
        text = write(has)
        generative.append({**item, "text": text, **describe_answer(text, finish_reason, answer)})
        letters.append({**item, "text": has, "is_letter": True, "correct": is_known})
    return GeneralAnswers(log_likelihood, generative, letters)


def questions(num):
    return {f"q{i}": f"What is {i}?" for i in range(num)}
