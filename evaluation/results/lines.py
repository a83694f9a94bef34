"""What a finished shard holds, an object a line: `predictions.jsonl` of VOC, `samples.jsonl` of MMLU and of lm-eval tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from evaluation.results.figures import Hash, Tokens


class SegmentLine(TypedDict):
    """One segment of an answer."""

    content: Annotated[str, "the piece of the comment, word for word if the model kept to the contract"]
    L1: Annotated[str, "label, first level"]
    L2: Annotated[str, "second level"]
    L3: Annotated[str, "third level"]
    L4: Annotated[str, "fourth level"]
    emotion: Annotated[str, "as the model wrote it"]


class Usage(TypedDict):
    """Tokens of one request, as the server counted them."""

    prompt_tokens: Annotated[Tokens, "of the prompt; 0 where nothing was asked"]
    completion_tokens: Annotated[Tokens, "of the answer"]
    cached_tokens: Annotated[
        NotRequired[int | None], "tokens of the prompt that the engine had computed before; null if it does not say"
    ]


class VocLine(TypedDict):
    """One comment, in `predictions.jsonl`."""

    custom_id: Annotated[str, "id of the test record"]
    prompt_hash: Annotated[Hash, "of the words that were asked"]
    text: Annotated[str, "the raw answer"]
    finish_reason: Annotated[str, "the server's, or `prompt_too_long` (not asked), or `imported`"]
    usage: Annotated[Usage, "tokens"]
    segments: Annotated[list[SegmentLine] | None, "what the lenient parse read; null after a failure"]
    failure: Annotated[str | None, "why even the lenient parse gave up; null if it did not"]
    strict: Annotated[bool, "the answer as a whole is the list that was asked for"]
    repair: Annotated[NotRequired[str | None], "what the lenient parse looked past; null if nothing"]


class QuestionLine(TypedDict):
    """One multiple-choice question, in `samples.jsonl` of every MMLU suite."""

    custom_id: Annotated[str, "id of the question"]
    prompt_hash: Annotated[Hash, "of the words that were asked"]
    subject: Annotated[str, "as the data set names it"]
    slice: Annotated[str | None, "part of the data set, such as replayed or not; null without slices"]
    answer: Annotated[Literal["A", "B", "C", "D"], "the right letter"]
    correct: Annotated[bool, "the suite calls the answer right"]


class LogLikelihoodLine(QuestionLine):
    """`mmlu_log_likelihood`: how likely each letter is after the question as raw text."""

    prediction: Annotated[str, "the most likely letter"]
    log_probabilities: Annotated[list[float], "natural logarithm, of A to D"]
    scoring: Annotated[str, "the way on the ladder by which they were got"]


class GenerativeLine(QuestionLine):
    """`mmlu_generative`: a chat that has to end in the closing sentence."""

    text: Annotated[str, "the raw answer"]
    finish_reason: Annotated[str, "the server's"]
    completion_tokens: Annotated[Tokens, "of the answer"]
    strict: Annotated[str | None, "letter of the last closing sentence; null without one"]
    lenient: Annotated[str | None, "letter under the usual other forms too; null without one"]
    schema_leak: Annotated[bool, "the answer is VOC JSON, a fragment of it, or carries its keys"]
    refusal: Annotated[bool, "the answer declines"]
    cut: Annotated[bool, "the answer reached its longest length"]
    kind: Annotated[
        str,
        "the one kind of the answer: right, wrong_letter, schema_leak, refusal, truncated, empty, other_form, no_letter",
    ]


class LetterLine(QuestionLine):
    """`mmlu_letter`: a chat that may answer with one letter only."""

    text: Annotated[str, "the raw answer"]
    finish_reason: Annotated[str, "the server's"]
    is_letter: Annotated[bool, "false shows a server that does not constrain"]


class TaskFilter(TypedDict):
    """What one of a task's filters made of the answer."""

    filtered_resps: Annotated[Any, "the answer after the filter"]
    metrics: Annotated[dict[str, Any], "lm-eval's figure per metric: a number, or a list of true and false"]


class TaskLine(TypedDict):
    """One question of an lm-eval task that the configuration names, as lm-eval logs it."""

    custom_id: Annotated[str, "`<task>-<number of the question>`"]
    task: Annotated[str, "lm-eval's name of the task"]
    doc_id: Annotated[int, "number of the question within the task"]
    doc_hash: Annotated[str, "lm-eval's hash of the question"]
    prompt_hash: Annotated[str, "lm-eval's hash of the words that were asked"]
    target_hash: Annotated[str, "lm-eval's hash of what is right"]
    finish_reason: Annotated[NotRequired[str], "the server's; of tasks that generate"]
    completion_tokens: Annotated[NotRequired[int], "tokens of the answer; of tasks that generate"]
    scoring: Annotated[NotRequired[str], "the way of scoring; of tasks that choose"]
    filters: Annotated[dict[str, TaskFilter], "per filter of the task"]
    doc: Annotated[Any, "the question as the data set has it"]
    target: Annotated[Any, "what is right"]
    arguments: Annotated[Any, "what was asked"]
    resps: Annotated[Any, "what was answered"]
