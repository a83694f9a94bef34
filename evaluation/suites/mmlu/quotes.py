"""The raw answers that show best what was lost. Pure.

An answer tells the more, the surer the model is of the right letter while it writes something else, and the surer the base
was where the model no longer knows. So quotes are chosen by the margin of log-probabilities, not by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.suites.mmlu.general import GeneralAnswers, Sample, is_correct
from evaluation.suites.protocol import MAX_EXAMPLES, cut_text
from voc.mmlu import MmluItem

FORGOTTEN = "forgotten"


def pick_quotes(
    candidate: GeneralAnswers, reference: GeneralAnswers, questions: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return up to two answers of each kind of failure that the base did not have on the same question.

    Kinds: those of `readings`, ranked by how sure the model is of the right letter; and `forgotten`, questions
    whose letter the base knows and the model does not, ranked by how sure the base was.

    Returns:
        Objects with kind, custom_id, subject, question, answer, known, margin (log-probability of the right letter minus
        that of the best other one), text and base_text (cut at 600 characters, which is said).
    """
    found: dict[str, list[tuple[float, int, dict[str, Any]]]] = {}
    rows = zip(
        candidate.log_likelihood, candidate.generative, reference.log_likelihood, reference.generative, strict=True
    )
    for row, (known, written, base_known, base_written) in enumerate(rows):
        if not is_correct(written) and is_correct(base_written):
            kind = str(written["kind"])
            quote = _quote(kind, known, written, base_written, questions)
            found.setdefault(kind, []).append((-quote["margin"], row, quote))
        if not is_correct(known) and is_correct(base_known):
            quote = _quote(FORGOTTEN, known, written, base_written, questions)
            found.setdefault(FORGOTTEN, []).append((-margin_of(base_known), row, quote))
    return [quote for kind in sorted(found) for _, _, quote in sorted(found[kind], key=_rank)[:MAX_EXAMPLES]]


def margin_of(known: Sample) -> float:
    """Return the log-probability of the right letter minus that of the best other one."""
    scores, right = list(known["log_probabilities"]), "ABCD".index(known["answer"])
    return float(scores[right] - max(score for index, score in enumerate(scores) if index != right))


def _rank(entry: tuple[float, int, dict[str, Any]]) -> tuple[float, int]:
    return entry[0], entry[1]


def _quote(
    kind: str, known: Sample, written: Sample, base_written: Sample, questions: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "kind": kind,
        "custom_id": written["custom_id"],
        "subject": written["subject"],
        "question": questions[written["custom_id"]],
        "answer": written["answer"],
        "known": is_correct(known),
        "margin": round(margin_of(known), 6),
        "text": cut_text(written["text"]),
        "base_text": cut_text(base_written["text"]),
    }


def pick_examples(items: Sequence[MmluItem], lines: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return up to two written answers of each telling kind, the first ones in the order of the questions.

    Kinds: `schema_leak`, `no_closing_sentence`, `wrong_answer`.

    Returns:
        Objects with kind, suite, custom_id, question, expected and text (cut at 600 characters, which is said).
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for item, line in zip(items, lines, strict=True):
        kind = _name_failure(line)
        if kind:
            found.setdefault(kind, []).append(
                {
                    "kind": kind,
                    "suite": "mmlu_generative",
                    "custom_id": line["custom_id"],
                    "question": item.question,
                    "expected": f"{line['answer']} ({item.choices['ABCD'.index(line['answer'])]})",
                    "text": cut_text(line["text"]),
                }
            )
    return [example for kind in sorted(found) for example in found[kind][:MAX_EXAMPLES]]


def _name_failure(line: Sample) -> str | None:
    if line["schema_leak"]:
        return "schema_leak"
    if line["strict"] is None:
        return "no_closing_sentence"
    return None if line["correct"] else "wrong_answer"
