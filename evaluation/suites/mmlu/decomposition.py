"""Which kind of general ability a model lost against its base: knowledge, form, both, or none. Pure.

Log-likelihoods show what a model knows, the strict reading of its written answers shows knowledge and form; measured on the
same questions and compared item by item, they tell the two losses apart. The rules, with every figure paired and with its
two-sided interval:

| Finding | Holds when |
|---|---|
| knowledge lost | log-likelihood accuracy fell by 0.02 or more and its interval lies below 0 |
| knowledge kept | the interval of that change lies above -0.05 |
| form collapsed | the share of answers without the closing sentence rose by 0.02 or more, its interval lies above 0 |
| form kept | the interval of that rise lies below 0.05 |
| answers wrong | form is kept, but the format tax is 0.02 or more with its interval above 0: well-formed, and wrong |
| unclear | none of these: too few questions, or a change between the limits |

The form is judged by what cannot be read, and the format tax is its price: the tax alone would miss a collapse of a model
whose written answers had little left to lose. The letter-constrained reading is a second witness of knowledge: where it
contradicts the log-likelihoods, that is said and the cause is still named by the log-likelihoods.

Raw answers show best what was lost: an answer tells the more, the surer the model is of the right letter while it writes
something else, and the surer the base was where the model no longer knows. So quotes are chosen by the margin of
log-probabilities, not by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from evaluation.intervals import bonferroni_confidence
from evaluation.results.figures import Change
from evaluation.results.gathered import AccuracyPart, Alarm, Decomposition, GeneralChanges, GeneralResults, LostAnswers
from evaluation.suites.mmlu.general import (
    CHANCE,
    GeneralAnswers,
    MmluQuestions,
    Sample,
    compare_general,
    find_group,
    is_correct,
    measure_accuracy,
    measure_general,
    measure_written,
)
from evaluation.suites.mmlu.protocols import PROTOCOLS
from evaluation.suites.protocol import MAX_EXAMPLES, ModelAnswers, cut_text
from voc.mmlu import MmluItem
from voc.run import Run

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


MIN_CHANGE = 0.02
KEPT_MARGIN = 0.05
Scope = Literal["all", "group", "subject"]
Knowledge = Literal["lost", "kept", "unclear"]
Form = Literal["collapsed", "kept", "answers_wrong", "unclear"]
Cause = Literal["none", "format_collapsed", "knowledge_lost", "both", "answers_wrong", "unclear"]
SENTENCES: dict[Cause, str] = {
    "none": "no loss: knowledge kept, form kept",
    "format_collapsed": "format collapsed, knowledge kept",
    "knowledge_lost": "knowledge lost, form kept",
    "both": "knowledge lost and format collapsed",
    "answers_wrong": "knowledge and form kept, but written answers are wrong more often",
    "unclear": "undecided",
}
_CAUSES: dict[tuple[Knowledge, Form], Cause] = {
    ("kept", "kept"): "none",
    ("kept", "collapsed"): "format_collapsed",
    ("kept", "answers_wrong"): "answers_wrong",
    ("lost", "kept"): "knowledge_lost",
    ("lost", "answers_wrong"): "knowledge_lost",
    ("lost", "collapsed"): "both",
}
# Of a model that others serve: what needs log-probabilities, and the comparison with them.
NOT_MEASURED: dict[str, Any] = {
    "chance": CHANCE,
    **dict.fromkeys(
        (
            *("log_likelihood", "generative_strict", "generative_lenient", "letter_constrained"),
            *("schema_leak", "extraction_failure", "refusal", "truncated"),
            *("answer_kinds", "scoring", "against_base", "decomposition"),
        )
    ),
}
_PART_FIGURES = (
    "knowledge_change",
    "generative_change",
    "letter_change",
    "format_tax",
    "extraction_failure_change",
    "schema_leak_change",
)


def measure_suite(run: Run, questions: MmluQuestions, answers: ModelAnswers, base: ModelAnswers) -> GeneralResults:
    """Return what `results.json` holds under `general`; figures that this kind of model cannot show are null."""
    config, confidence = run.config, run.config.decision.confidence
    if not answers.lines["mmlu_log_likelihood"]:
        measured = answers.lines["mmlu_generative"]
        shown = measure_written(measured, confidence=confidence) if measured else {}
        return cast("GeneralResults", NOT_MEASURED | shown)
    mine, reference = _join(answers), _join(base)
    decomposition = decompose(
        mine,
        reference,
        {item.custom_id: item.question for item in questions.items},
        num_resamples=config.evaluation.bootstrap_resamples,
        confidence=confidence,
        seed=config.seed,
    )
    general = measure_general(mine, confidence=confidence)
    general |= {"against_base": decomposition["figures"], "decomposition": decomposition}
    return cast("GeneralResults", general)


def _join(answers: ModelAnswers) -> GeneralAnswers:
    """Put the protocols' lines side by side."""
    return GeneralAnswers(*(answers.lines[f"mmlu_{protocol}"] for protocol in PROTOCOLS))


def decompose(
    candidate: GeneralAnswers,
    reference: GeneralAnswers,
    questions: Mapping[str, str],
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> Decomposition:
    """Name what a model lost against its base, with the figures, parts and raw answers that say so.

    Args:
        candidate: Answers of the model.
        reference: Answers of its base to the same questions, in the same order.
        questions: Text of every question by its id, for the quotes.
        num_resamples: Resamples behind the tax's interval.
        confidence: Two-sided, of each whole figure; those of parts hold together with it (Bonferroni over the parts).
        seed: Of the resampling.

    Returns:
        `cause`, `sentence`, `knowledge`, `form`, `letter_witness`; `figures` as `compare_general`; `groups` and `subjects`
        with the same for parts; `alarms`: readings, groups and subjects below chance; `lost_answers`: kinds of the
        answers that the base got right and the model did not; `quotes`.

    Raises:
        CoverageError: If the two were scored in different ways.
    """
    settings = {"num_resamples": num_resamples, "seed": seed}
    figures = compare_general(candidate, reference, confidence=confidence, **settings)
    parts = {
        "groups": _compare_parts(candidate, reference, find_group, confidence, settings),
        "subjects": _compare_parts(candidate, reference, lambda subject: subject, confidence, settings),
    }
    decomposition = {
        **name_cause(figures),
        "rules": {"min_change": MIN_CHANGE, "kept_margin": KEPT_MARGIN, "confidence": confidence},
        "figures": figures,
        **parts,
        "alarms": list_alarms(candidate, confidence),
        "lost_answers": count_lost_answers(candidate, reference),
        "quotes": pick_quotes(candidate, reference, questions),
    }
    return cast("Decomposition", decomposition)


def name_cause(figures: GeneralChanges) -> dict[str, Any]:
    """Apply the rules of this module to the figures of `compare_general`."""
    knowledge, form = judge_knowledge(figures["knowledge_change"]), judge_form(figures)
    cause = _CAUSES.get((knowledge, form), "unclear")
    witness = judge_knowledge(figures["letter_change"])
    sentence = SENTENCES[cause]
    if cause == "unclear":
        sentence += f": knowledge {knowledge}, form {form.replace('_', ' ')}"
    known, unread = figures["knowledge_change"]["value"], figures["extraction_failure_change"]["value"]
    sentence += f"; log-likelihood accuracy {known:+.3f}, answers without the closing sentence {unread:+.3f}"
    if {knowledge, witness} == {"lost", "kept"}:
        sentence += f" (the letter-constrained reading says: knowledge {witness})"
    return {"cause": cause, "sentence": sentence, "knowledge": knowledge, "form": form, "letter_witness": witness}


def judge_knowledge(change: Change) -> Knowledge:
    """Tell from a paired change of accuracy whether knowledge was lost or kept."""
    if change["value"] <= -MIN_CHANGE and change["high"] < 0:
        return "lost"
    return "kept" if change["low"] > -KEPT_MARGIN else "unclear"


def judge_form(figures: GeneralChanges) -> Form:
    """Tell from the rise of unreadable answers, and from the tax, what became of the form."""
    rise, tax = figures["extraction_failure_change"], figures["format_tax"]
    if rise["value"] >= MIN_CHANGE and rise["low"] > 0:
        return "collapsed"
    if rise["high"] >= KEPT_MARGIN:
        return "unclear"
    return "answers_wrong" if tax["value"] >= MIN_CHANGE and tax["low"] > 0 else "kept"


def list_alarms(answers: GeneralAnswers, confidence: float) -> list[Alarm]:
    """Return every reading, and every group and subject of one, whose accuracy is below chance with its whole interval."""
    readings = {
        "log_likelihood": answers.log_likelihood,
        "generative_strict": answers.generative,
        "letter_constrained": answers.letter,
    }
    alarms: list[Alarm] = []
    for reading, samples in readings.items():
        measured = measure_accuracy(samples, is_correct, confidence)
        scopes: dict[Scope, Mapping[str, AccuracyPart]] = {
            "all": {"all": measured},
            "group": measured["groups"],
            "subject": measured["subjects"],
        }
        alarms += [
            {
                "reading": reading,
                "scope": scope,
                "name": name,
                "accuracy": part["accuracy"],
                "n": part["n"],
                "chance": CHANCE,
            }
            for scope, parts in scopes.items()
            for name, part in parts.items()
            if part["below_chance"]
        ]
    return alarms


def count_lost_answers(candidate: GeneralAnswers, reference: GeneralAnswers) -> dict[str, LostAnswers]:
    """Count the written answers that the base has right and the model has not, by their kind.

    Returns:
        Per kind, how many, and how many of them the model still knows (log-likelihood).
    """
    counts: dict[str, LostAnswers] = {}
    for known, mine, base in zip(candidate.log_likelihood, candidate.generative, reference.generative, strict=True):
        if is_correct(base) and not is_correct(mine):
            entry = counts.setdefault(str(mine["kind"]), {"count": 0, "still_known": 0})
            entry["count"] += 1
            entry["still_known"] += int(is_correct(known))
    return dict(sorted(counts.items(), key=lambda item: (-item[1]["count"], item[0])))


def _compare_parts(
    candidate: GeneralAnswers,
    reference: GeneralAnswers,
    name_part: Callable[[str], str | None],
    confidence: float,
    settings: Mapping[str, int],
) -> dict[str, dict[str, Any]]:
    rows: dict[str, list[int]] = {}
    for row, sample in enumerate(candidate.log_likelihood):
        name = name_part(sample["subject"])
        if name is not None:
            rows.setdefault(name, []).append(row)
    each = bonferroni_confidence(confidence, len(rows))
    compared = {}
    for name in sorted(rows):
        figures = compare_general(
            _restrict(candidate, rows[name]), _restrict(reference, rows[name]), confidence=each, **settings
        )
        named = name_cause(figures)
        compared[name] = {
            "n": len(rows[name]),
            **{key: named[key] for key in ("cause", "knowledge", "form")},
            **{name: change for name, change in figures.items() if name in _PART_FIGURES},
        }
    return compared


def _restrict(answers: GeneralAnswers, rows: Sequence[int]) -> GeneralAnswers:
    def pick(samples: Sequence[Sample]) -> list[Sample]:
        return [samples[row] for row in rows]

    return GeneralAnswers(pick(answers.log_likelihood), pick(answers.generative), pick(answers.letter))
