"""How the choices of a question get their log-probabilities: the ladder of ways, and each way's requests. Pure.

Stock lm-eval asks for the log-probabilities of the whole prompt once per choice: four uncached prompts per question. Where
the choices are one token each, one request for the next token gives all of them. The ladder, best first:

1. `logprob_token_ids`: exactly the choices' tokens, several questions a request;
2. `top_logprobs`: the 20 most likely tokens, if every choice of every question is among them;
3. `echo`: lm-eval's own way, for choices of several tokens and for everything else.

All give the same numbers up to the engine's rounding, which batches and prefix caches move. So one way is taken for a whole
shard, `evaluation.mmlu.scoring` (or a task's own `scoring`) can name it, and figures that were made in different ways are
not compared.

Source: https://docs.vllm.ai/en/latest/api/vllm/sampling_params/ (logprob_token_ids);
https://platform.openai.com/docs/api-reference/completions (logprobs, echo).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TOKEN_IDS, TOP, ECHO = "logprob_token_ids", "top_logprobs", "echo"
LADDER = (TOKEN_IDS, TOP, ECHO)
NUM_TOP = 20
Score = tuple[float, bool]


class ChoiceMissingError(LookupError):
    """The answer of a server lacks the log-probability of a choice: it cannot score in this way."""


@dataclass(frozen=True, slots=True)
class ScoredQuestion:
    """One question whose choices are one token each.

    Attributes:
        custom_id: Its id.
        context: Token ids of the text before the choice.
        choice_ids: Token of each choice.
        choices: The choices as texts, with the space before them.
    """

    custom_id: str
    context: list[int]
    choice_ids: tuple[int, ...]
    choices: tuple[str, ...]


def describe_request(scoring: str, batch: Sequence[ScoredQuestion]) -> dict[str, Any]:
    """Return the body of the completions request that scores questions with equal choices in the first or second way."""
    body = {
        "prompt": [question.context for question in batch],
        "max_tokens": 1,
        "temperature": 0,
        "return_tokens_as_token_ids": True,
    }
    if scoring == TOKEN_IDS:
        return body | {"logprobs": 1, "logprob_token_ids": list(batch[0].choice_ids)}
    return body | {"logprobs": NUM_TOP}


def read_batch(answer: Mapping[str, Any], batch: Sequence[ScoredQuestion]) -> dict[str, list[Score]]:
    """Return, per question, what stock lm-eval would: log-probability and whether greedy decoding would write the choice.

    Raises:
        ChoiceMissingError: If the answer lacks a choice of any question.
    """
    found = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    return {question.custom_id: _read(choice, question) for question, choice in zip(batch, found, strict=True)}


def _read(choice: Mapping[str, Any], question: ScoredQuestion) -> list[Score]:
    logprobs = choice.get("logprobs") or {}
    top = (logprobs.get("top_logprobs") or [{}])[0] or {}
    written = (logprobs.get("tokens") or [None])[0]
    scores = []
    for token, text in zip(question.choice_ids, question.choices, strict=True):
        # vLLM names tokens by id when asked to; other servers ignore the wish and name them by text.
        name = next((name for name in (f"token_id:{token}", text) if name in top), None)
        if name is None:
            raise ChoiceMissingError(f"{question.custom_id}: no log-probability of {text!r} among {len(top)} tokens")
        scores.append((float(top[name]), written == name))
    return scores


def list_scoring_problems(ways: Mapping[str, Sequence[str]], suite: str, key: str) -> list[str]:
    """Return a sentence if models that are compared were scored in different ways.

    Args:
        ways: Per model, the way of every line.
        suite: Name for the message.
        key: The setting that can name one way.
    """
    seen = {model: sorted(set(found)) for model, found in ways.items()}
    if len({way for found in seen.values() for way in found}) <= 1:
        return []
    listed = "; ".join(f"{model}: {', '.join(found)}" for model, found in seen.items())
    return [
        f"{suite} was scored in different ways ({listed}): set {key} to one that all servers "
        f"and tokenizers of the run can do ({ECHO} always is) and start a new run"
    ]
