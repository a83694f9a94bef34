"""lm-eval's endpoint models with this pipeline's transport, and a cheaper way to score one-token choices.

Stock lm-eval asks for the log-probabilities of the whole prompt once per choice: four uncached prompts per question. Where
the choices are one token each, one request for the next token gives all of them (`logprob_token_ids`), with the same
numbers. The ladder:

1. `logprob_token_ids`, several questions a request;
2. lm-eval's own way (echo), for questions whose choices are not one token, and for a server that does not know the field.

Both keep the end of a context that is too long: its last `max_model_len - 2` tokens, counted in `truncated`. A chat that is
too long keeps its last `max_model_len - max_tokens` tokens, counted alike.
This module imports lm_eval, so it is itself imported inside functions only.

Source: https://docs.vllm.ai/en/latest/api/vllm/sampling_params/ (logprob_token_ids);
https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/API_guide.md
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance  # noqa: TID253
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI  # noqa: TID253
from tokenizers import Tokenizer

from evaluation.client import EndpointClient, PromptTooLongError, RequestRefusedError, gather_all
from evaluation.endpoint import Endpoint
from evaluation.shards import PartFile
from voc.progress import Progress

QUESTIONS_PER_REQUEST = 8
FAST, STOCK = "logprob_token_ids", "echo"
LM_EVAL_RETRIES = 6
LM_EVAL_TIMEOUT_S = 600
_KEY_VARIABLE = "OPENAI_API_KEY"
Score = tuple[float, bool]


class LogLikelihoodModel(LocalCompletionsAPI):  # type: ignore[misc]
    """`local-completions` that scores the choices of a question together.

    Args:
        endpoint: The served model.
        key: The shared key.
        folder: The model's folder, for its tokenizer.
        max_model_len: Tokens of prompt and answer that the server takes.
        concurrency: Questions in flight.
        part: Finished questions, `{custom_id, scores}`; those in it are not asked again.
        scoring: `logprob_token_ids`, or `echo` for lm-eval's own way throughout.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        *,
        folder: Path,
        max_model_len: int,
        concurrency: int,
        part: PartFile,
        scoring: str = FAST,
    ) -> None:
        super().__init__(
            base_url=f"{endpoint.url}/completions",
            model=endpoint.model,
            tokenizer_backend="None",  # transformers imports torch for it, 8 s that nothing here needs
            max_length=max_model_len,
            num_concurrent=max(2, concurrency),  # 1 makes lm-eval block on each request
            max_retries=LM_EVAL_RETRIES,
            timeout=LM_EVAL_TIMEOUT_S,
        )
        self.tokenizer = _load_tokenizer(folder)
        self.tokenized_requests = True
        self.endpoint = endpoint
        self.scoring = scoring
        self.truncated = 0
        self.questions = {FAST: 0, STOCK: 0}
        self._key = key
        self._part = part
        self._choice_ids: dict[tuple[str, str], int | None] = {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Score]:
        """Return log-probability and greediness of every choice, in the order of `requests`."""
        groups = _group_by_question(requests)
        done = {line["custom_id"]: [(score, greedy) for score, greedy in line["scores"]] for line in self._part.lines}
        todo = [group for group in groups if group[0].doc["custom_id"] not in done]
        scores = done | self._score(todo)
        return [score for group in groups for score in scores[group[0].doc["custom_id"]]]

    def tok_encode(self, string: str | list[str], *_: Any, **__: Any) -> Any:
        """Return the token ids of a text, or of each text of a list; no special tokens are added."""
        if isinstance(string, str):
            return self.tokenizer.encode(string, add_special_tokens=False).ids
        return [encoding.ids for encoding in self.tokenizer.encode_batch(string, add_special_tokens=False)]

    def _score(self, groups: list[list[Instance]]) -> dict[str, list[Score]]:
        contexts = self.tok_encode([group[0].args[0] for group in groups])
        self.truncated += sum(len(context) > self.max_length - 1 for context in contexts)
        scores: dict[str, list[Score]] = {}
        if self.scoring == FAST:
            ids = self._find_choice_ids(groups, contexts)
            fast = [
                (group[0].doc["custom_id"], context[-(self.max_length - 1) :], found)
                for group, context, found in zip(groups, contexts, ids, strict=True)
                if found is not None
            ]
            scores = asyncio.run(self._score_together(fast))
        rest = [group for group in groups if group[0].doc["custom_id"] not in scores]
        self.questions[FAST] += len(scores)
        self.questions[STOCK] += len(rest)
        return scores | self._score_by_echo(rest)

    def _find_choice_ids(
        self, groups: Sequence[Sequence[Instance]], contexts: Sequence[list[int]]
    ) -> list[list[int] | None]:
        """Return the token of each choice per question, or None where one is not exactly one token after its context.

        The first choice is checked behind the whole context, the others behind its last line, which is the same for all
        questions.
        """
        texts = [group[0].args[0] for group in groups]
        wholes = self.tok_encode([text + group[0].args[1] for text, group in zip(texts, groups, strict=True)])
        found: list[list[int] | None] = []
        for group, text, context, whole in zip(groups, texts, contexts, wholes, strict=True):
            line = text[text.rfind("\n") + 1 :]
            ids = [self._find_choice_id(line, instance.args[1]) for instance in group]
            known = [i for i in ids if i is not None]
            fits = whole[:-1] == context and text == text.rstrip() and len(known) == len(ids)
            found.append(known if fits else None)
        return found

    def _find_choice_id(self, line: str, choice: str) -> int | None:
        if (line, choice) not in self._choice_ids:
            before, whole = self.tok_encode(line), self.tok_encode(line + choice)
            self._choice_ids[line, choice] = whole[-1] if whole[:-1] == before else None
        return self._choice_ids[line, choice]

    async def _score_together(self, questions: Sequence[tuple[str, list[int], list[int]]]) -> dict[str, list[Score]]:
        by_ids: dict[tuple[int, ...], list[tuple[str, list[int], list[int]]]] = {}
        for question in questions:
            by_ids.setdefault(tuple(question[2]), []).append(question)
        size = QUESTIONS_PER_REQUEST
        batches = [group[i : i + size] for group in by_ids.values() for i in range(0, len(group), size)]
        progress = Progress(f"mmlu log-likelihood {self.endpoint.model}", len(questions), "questions")
        scores: dict[str, list[Score]] = {}
        concurrency = max(1, self._concurrent // size)
        async with EndpointClient(self.endpoint, self._key, concurrency=concurrency) as client:

            async def ask(batch: Sequence[tuple[str, list[int], list[int]]]) -> None:
                answer = await client.post("/completions", _describe_scoring(batch))
                for (custom_id, _, ids), choice in zip(batch, _in_order(answer), strict=True):
                    scores[custom_id] = _read_scores(choice, ids)
                    self._part.append({"custom_id": custom_id, "scores": scores[custom_id]})
                progress.advance(len(batch), retries=client.retries)

            try:
                if batches:
                    await ask(batches[0])
            except (RequestRefusedError, KeyError) as error:
                print(f"mmlu: the server does not score choices together ({error}); {STOCK} instead", flush=True)
                self.scoring = STOCK
                return {}
            await gather_all(ask(batch) for batch in batches[1:])
        progress.finish(truncated=self.truncated)
        return scores

    def _score_by_echo(self, groups: Sequence[Sequence[Instance]]) -> dict[str, list[Score]]:
        if not groups:
            return {}
        with _shared_key(self._key):
            flat = super().loglikelihood([i for group in groups for i in group], disable_tqdm=True)
        scores, start = {}, 0
        for group in groups:
            custom_id = group[0].doc["custom_id"]
            scores[custom_id] = flat[start : start + len(group)]
            self._part.append({"custom_id": custom_id, "scores": scores[custom_id]})
            start += len(group)
        return scores


class GenerativeModel(LocalChatCompletion):  # type: ignore[misc]
    """`local-chat-completions` over this pipeline's client.

    Args:
        endpoint: The served model.
        key: The shared key.
        max_model_len: Tokens of prompt and answer that the server takes.
        concurrency: Requests in flight.
        part: Finished questions, `{custom_id, text, ...}`; those in it are not asked again.
    """

    def __init__(self, endpoint: Endpoint, key: str, *, max_model_len: int, concurrency: int, part: PartFile) -> None:
        super().__init__(
            base_url=f"{endpoint.url}/chat/completions",
            model=endpoint.model,
            num_concurrent=concurrency,
            max_length=max_model_len,
            eos_string="",
        )
        self.endpoint = endpoint
        self._key = key
        self._part = part

    @property
    def truncated(self) -> int:
        """Chats of which only the end was asked."""
        return sum(line["truncated"] for line in self._part.lines)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return one greedy answer per request, in order."""
        asyncio.run(self._ask_all(requests))
        texts = {line["custom_id"]: str(line["text"]) for line in self._part.lines}
        return [texts[request.doc["custom_id"]] for request in requests]

    async def _ask_all(self, requests: Sequence[Instance]) -> None:
        done = {line["custom_id"] for line in self._part.lines}
        progress = Progress(f"mmlu generative {self.endpoint.model}", len(requests), "questions")
        progress.done = len(done)
        async with EndpointClient(self.endpoint, self._key, concurrency=self._concurrent) as client:

            async def ask(request: Instance) -> None:
                chat, settings = request.args
                messages, max_tokens = json.loads(chat.prompt), int(settings["max_gen_toks"])
                try:
                    completion = await client.chat(messages, max_tokens=max_tokens)
                    # vLLM shortens an answer that has too little room left, and says nothing.
                    truncated = completion.finish_reason == "length" and completion.completion_tokens < max_tokens
                except PromptTooLongError:
                    truncated = True
                if truncated:
                    kept = self.max_length + 1 - max_tokens
                    completion = await client.chat(messages, max_tokens=max_tokens, keep_last_tokens=kept)
                self._part.append(
                    {
                        "custom_id": request.doc["custom_id"],
                        "text": completion.text,
                        "truncated": truncated,
                        "finish_reason": completion.finish_reason,
                        "prompt_tokens": completion.prompt_tokens,
                        "completion_tokens": completion.completion_tokens,
                    }
                )
                progress.advance(1, retries=client.retries)

            await gather_all(ask(request) for request in requests if request.doc["custom_id"] not in done)
        progress.finish(truncated=self.truncated)


def _load_tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _group_by_question(requests: Sequence[Instance]) -> list[list[Instance]]:
    groups: dict[str, list[Instance]] = {}
    for request in requests:
        groups.setdefault(request.doc["custom_id"], []).append(request)
    return list(groups.values())


def _describe_scoring(batch: Sequence[tuple[str, list[int], list[int]]]) -> dict[str, Any]:
    return {
        "prompt": [context for _, context, _ in batch],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 1,
        "logprob_token_ids": batch[0][2],
        "return_tokens_as_token_ids": True,
    }


def _in_order(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(answer["choices"], key=lambda choice: int(choice["index"]))


def _read_scores(choice: dict[str, Any], ids: Sequence[int]) -> list[Score]:
    """Return what stock lm-eval would: log-probability, and whether greedy decoding would write this choice."""
    found = choice["logprobs"]["top_logprobs"][0]
    greedy = choice["logprobs"]["tokens"][0]
    return [(float(found[f"token_id:{i}"]), greedy == f"token_id:{i}") for i in ids]


@contextmanager
def _shared_key(key: str) -> Iterator[None]:
    """Show lm-eval the key where it looks for one, in this process only."""
    before = os.environ.get(_KEY_VARIABLE)
    os.environ[_KEY_VARIABLE] = key
    try:
        yield
    finally:
        if before is None:
            del os.environ[_KEY_VARIABLE]
        else:
            os.environ[_KEY_VARIABLE] = before
