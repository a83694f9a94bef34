"""A few raw answers that say more than a rate: what failed to parse, what leaked, what never got to the closing sentence.

Pure. The first ones in the order of the questions are taken, so that they are not chosen to please.
"""

from __future__ import annotations

from typing import Any

from evaluation.answers import GENERATIVE, VOC, Line, ModelAnswers, Questions
from evaluation.suites.mmlu.quotes import cut_text

MAX_PER_KIND = 2


def pick_examples(answers: ModelAnswers, questions: Questions) -> list[dict[str, Any]]:
    """Return up to two answers of each telling kind.

    Kinds: `voc_<failure>` for unreadable VOC answers, `voc_wrong` for readable ones with no right label, `schema_leak`,
    `no_closing_sentence`, `wrong_answer`.

    Returns:
        Objects with kind, suite, custom_id, question, expected and text (cut at 600 characters, which is said).
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for answer, line in zip(answers.voc_answers(questions), answers.lines[VOC], strict=True):
        kind = f"voc_{answer.failure}" if answer.failure else None
        if kind is None and answer.gold and not answer.gold & answer.predicted:
            kind = "voc_wrong"
        if kind:
            expected = "; ".join(sorted(" > ".join(label) for label in answer.gold)) or "no label"
            found.setdefault(kind, []).append(_example(kind, VOC, line, answer.record.comment, expected))
    asked = questions.mmlu if answers.lines[GENERATIVE] else ()  # imported answers are to comments only
    for item, line in zip(asked, answers.lines[GENERATIVE], strict=True):
        kind = _general_kind(line)
        if kind:
            expected = f"{line['answer']} ({item.choices['ABCD'.index(line['answer'])]})"
            found.setdefault(kind, []).append(_example(kind, GENERATIVE, line, item.question, expected))
    return [example for kind in sorted(found) for example in found[kind][:MAX_PER_KIND]]


def _general_kind(line: Line) -> str | None:
    if line["schema_leak"]:
        return "schema_leak"
    if line["strict"] is None:
        return "no_closing_sentence"
    return None if line["correct"] else "wrong_answer"


def _example(kind: str, suite: str, line: Line, question: str, expected: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "suite": suite,
        "custom_id": line["custom_id"],
        "question": question,
        "expected": expected,
        "text": cut_text(line["text"]),
    }
