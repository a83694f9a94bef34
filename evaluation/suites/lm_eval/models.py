"""lm-eval's two models over this pipeline's clients, chats and log-likelihoods by the ladder of `scoring`; both keep a part file.

A chat whose last turn is the assistant's is continued, not answered (lm-eval's `gen_prefix`). A chat that is too long keeps
its last `max_model_len - max_tokens` tokens, counted in `truncated`. Of log-likelihoods one way is taken for all questions of a
shard: the first of the ladder that the choices and the server allow, or the one that the configuration names; a context that is
too long keeps its last `max_model_len - 2` tokens, counted too.
This module imports lm_eval, so it is itself imported inside functions only.

Source: https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/API_guide.md
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lm_eval.api.instance import Instance  # noqa: TID253
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI  # noqa: TID253
from tokenizers import Tokenizer

from evaluation.clients.interface import ChatClient, Completion, PromptTooLongError, RequestRefusedError, gather_all
from evaluation.clients.openai_compatible import EndpointClient
from evaluation.clients.opening import open_client
from evaluation.serving.endpoint import Endpoint, find_served_model, read_card, read_key
from evaluation.shards.shard import PartFile
from evaluation.suites.lm_eval.scoring import (
    ECHO,
    LADDER,
    ChoiceMissingError,
    Score,
    ScoredQuestion,
    describe_request,
    read_batch,
)
from evaluation.suites.lm_eval.tasks import ModelKind, request_id
from voc.errors import EndpointError, ModelError
from voc.models.folder import digest_model, read_model_file
from voc.progress import Progress
from voc.prompts import Message
from voc.run import Run, find_model

DEFAULT_MAX_TOKENS = 256
MAX_STOPS = 4  # the protocol's limit
QUESTIONS_PER_REQUEST = 8
QUESTIONS_PER_ECHO = 256
AUTO = "auto"
LM_EVAL_RETRIES = 6
LM_EVAL_TIMEOUT_S = 600
_KEY_VARIABLE = "OPENAI_API_KEY"


def make_model(run: Run, model: str, kind: ModelKind, *, concurrency: int, scoring: str, part: PartFile) -> Any:
    """Return the lm-eval model of a served model.

    Args:
        run: The run.
        model: Name of the model.
        kind: Which requests it answers: chats, or log-likelihoods of raw text.
        concurrency: Requests or questions in flight.
        scoring: The wanted way of the ladder (log-likelihoods only).
        part: Where finished questions go.

    Raises:
        EndpointError: If the model is not served, or another one is.
        ModelError: If a tokenizer is needed and not there.
    """
    entry = find_model(run, model)
    endpoint = find_served_model(run, model, entry.digest or digest_model(entry.uri))
    key = read_key(endpoint.key_variable) if endpoint.kind != "bedrock" else ""
    card = read_card(endpoint, key)
    common: dict[str, Any] = {
        "max_model_len": int(card.get("max_model_len") or run.config.serving.max_model_len),
        "concurrency": concurrency,
        "part": part,
    }
    if kind == "chat":
        return ChatModel(endpoint, **common)
    tokenizer = read_model_file(entry.uri, "tokenizer.json")
    if tokenizer is None:
        raise ModelError(f"{entry.uri} has no tokenizer.json", expected="a model folder in the Hugging Face layout")
    return LogLikelihoodModel(endpoint, key, tokenizer=tokenizer, scoring=scoring, **common)


class ChatModel(LocalChatCompletion):  # type: ignore[misc]
    """`local-chat-completions` over this pipeline's client.

    Args:
        endpoint: The served model.
        max_model_len: Tokens of prompt and answer that the server takes.
        concurrency: Requests in flight.
        part: Finished questions, `{custom_id, text, ...}`; those in it are not asked again.
    """

    def __init__(self, endpoint: Endpoint, *, max_model_len: int, concurrency: int, part: PartFile) -> None:
        super().__init__(
            base_url=f"{endpoint.url}/chat/completions",
            model=endpoint.model,
            num_concurrent=concurrency,
            max_length=max_model_len,
            eos_string="",
        )
        self.endpoint = endpoint
        self.retried: Counter[str] = Counter()
        self._part = part

    @property
    def truncated(self) -> int:
        """Chats of which only the end was asked."""
        return sum(line["truncated"] for line in self._part.lines)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return one answer per request, in order."""
        asyncio.run(self._ask_all(requests))
        texts = {line["custom_id"]: str(line["text"]) for line in self._part.lines}
        return [texts[request_id(request)] for request in requests]

    async def _ask_all(self, requests: Sequence[Instance]) -> None:
        done = {line["custom_id"] for line in self._part.lines}
        progress = Progress(f"chats {self.endpoint.model}", len(requests), "questions")
        async with open_client(self.endpoint, concurrency=self._concurrent) as client:

            async def ask(request: Instance) -> None:
                chat, wishes = request.args
                messages, (max_tokens, settings) = json.loads(chat.prompt), read_settings(wishes)
                completion, truncated = await self._ask(client, messages, max_tokens, settings)
                self._part.append(
                    {
                        "custom_id": request_id(request),
                        "text": completion.text,
                        "truncated": truncated,
                        "finish_reason": completion.finish_reason,
                        "prompt_tokens": completion.prompt_tokens,
                        "completion_tokens": completion.completion_tokens,
                    }
                )
                progress.advance(1, retries=client.retries)

            await gather_all(ask(request) for request in requests if request_id(request) not in done)
        self.retried.update(client.retried)
        progress.finish(truncated=self.truncated)

    async def _ask(
        self, client: ChatClient, messages: list[Message], max_tokens: int, settings: dict[str, Any]
    ) -> tuple[Completion, bool]:
        if messages[-1]["role"] == "assistant":
            settings |= {"add_generation_prompt": False, "continue_final_message": True}
        try:
            completion = await client.chat(messages, max_tokens=max_tokens, settings=settings)
            # vLLM shortens an answer that has too little room left, and says nothing.
            truncated = completion.finish_reason == "length" and completion.completion_tokens < max_tokens
        except PromptTooLongError:
            if self.endpoint.kind != "vllm":
                raise
            truncated = True
        truncated = truncated and self.endpoint.kind == "vllm"  # others cut no prompts, and say when an answer is
        if truncated:
            kept = self.max_length + 1 - max_tokens
            completion = await client.chat(messages, max_tokens=max_tokens, keep_last_tokens=kept, settings=settings)
        return completion, truncated


def read_settings(wishes: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return longest answer and request fields from a task's `generation_kwargs`; sampling only if the task asks for it."""
    settings = {name: value for name, value in wishes.items() if name not in {"until", "do_sample", "max_gen_toks"}}
    if not wishes.get("do_sample"):
        settings["temperature"] = 0
    until = wishes.get("until") or []
    stops = [until] if isinstance(until, str) else [stop for stop in until if stop]
    if stops:
        settings["stop"] = stops[:MAX_STOPS]
    return int(wishes.get("max_gen_toks", DEFAULT_MAX_TOKENS)), settings


class LogLikelihoodModel(LocalCompletionsAPI):  # type: ignore[misc]
    """`local-completions` that scores the choices of a question together.

    Args:
        endpoint: The served model.
        key: The shared key.
        tokenizer: Content of the model's tokenizer.json.
        max_model_len: Tokens of prompt and answer that the server takes.
        concurrency: Questions in flight.
        part: Finished questions, `{custom_id, scores, scoring}`; those scored in the same way are not asked again.
        scoring: A way of the ladder, or `auto` for the first that can be had.

    Attributes:
        taken: The way that all questions were scored in; None before `loglikelihood`.
        truncated: Questions of which only the end was asked.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        *,
        tokenizer: bytes,
        max_model_len: int,
        concurrency: int,
        part: PartFile,
        scoring: str = AUTO,
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
        self.tokenizer = _load_tokenizer(tokenizer)
        self.tokenized_requests = True
        self.endpoint = endpoint
        self.truncated = 0
        self.taken: str | None = None
        self.retried: Counter[str] = Counter()
        self._wanted = scoring
        self._key = key
        self._part = part
        self._choice_ids: dict[tuple[str, str], int | None] = {}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Score]:
        """Return log-probability and greediness of every choice, in the order of `requests`.

        Raises:
            EndpointError: If the configuration names a way that the server or the choices do not allow.
        """
        groups = _group_by_question(requests)
        contexts = self.tok_encode([group[0].args[0] for group in groups])
        self.truncated += sum(len(context) > self.max_length - 1 for context in contexts)
        questions = self._make_questions(groups, contexts)
        scores = self._score(groups, questions)
        return [score for group in groups for score in scores[request_id(group[0])]]

    def tok_encode(self, string: str | list[str], *_: Any, **__: Any) -> Any:
        """Return the token ids of a text, or of each text of a list; no special tokens are added."""
        if isinstance(string, str):
            return self.tokenizer.encode(string, add_special_tokens=False).ids
        return [encoding.ids for encoding in self.tokenizer.encode_batch(string, add_special_tokens=False)]

    def _score(
        self, groups: Sequence[list[Instance]], questions: Sequence[ScoredQuestion] | None
    ) -> dict[str, list[Score]]:
        ways = LADDER if self._wanted == AUTO else (self._wanted,)
        problems = []
        for way in ways:
            try:
                scores = self._score_in(way, groups, questions)
            except (RequestRefusedError, ChoiceMissingError) as error:
                problems.append(f"{way}: {error}")
                print(f"log-likelihood: the server does not score by {way} ({error})", flush=True)
                continue
            if scores is not None:
                self.taken = way
                return scores
            problems.append(f"{way}: a choice is not exactly one token")
        raise EndpointError(
            f"the choices cannot be scored: {'; '.join(problems)}",
            expected=f"a way that {self.endpoint.url} and this tokenizer allow",
            remedy=f"set evaluation.mmlu.scoring to {AUTO} or {ECHO}",
        )

    def _score_in(
        self, way: str, groups: Sequence[list[Instance]], questions: Sequence[ScoredQuestion] | None
    ) -> dict[str, list[Score]] | None:
        """Return the scores of all questions in one way, None where the way does not fit the choices."""
        done = {
            line["custom_id"]: [(score, greedy) for score, greedy in line["scores"]]
            for line in self._part.lines
            if line["scoring"] == way
        }
        if way == ECHO:
            return done | self._score_by_echo([group for group in groups if request_id(group[0]) not in done])
        if questions is None:
            return None
        return done | asyncio.run(self._score_together(way, [q for q in questions if q.custom_id not in done]))

    def _make_questions(
        self, groups: Sequence[Sequence[Instance]], contexts: Sequence[list[int]]
    ) -> list[ScoredQuestion] | None:
        """Return the questions, or None if any choice of any of them is not exactly one token after its context.

        The first choice is checked behind the whole context, the others behind its last line, which is the same for all
        questions.
        """
        texts = [group[0].args[0] for group in groups]
        wholes = self.tok_encode([text + group[0].args[1] for text, group in zip(texts, groups, strict=True)])
        questions = []
        for group, text, context, whole in zip(groups, texts, contexts, wholes, strict=True):
            line = text[text.rfind("\n") + 1 :]
            ids = [self._find_choice_id(line, instance.args[1]) for instance in group]
            known = tuple(i for i in ids if i is not None)
            if whole[:-1] != context or text != text.rstrip() or len(known) != len(ids) or len(set(known)) != len(ids):
                return None
            kept, choices = context[-(self.max_length - 1) :], tuple(str(instance.args[1]) for instance in group)
            questions.append(ScoredQuestion(request_id(group[0]), kept, known, choices))
        return questions

    def _find_choice_id(self, line: str, choice: str) -> int | None:
        if (line, choice) not in self._choice_ids:
            before, whole = self.tok_encode(line), self.tok_encode(line + choice)
            self._choice_ids[line, choice] = whole[-1] if whole[:-1] == before else None
        return self._choice_ids[line, choice]

    async def _score_together(self, way: str, questions: Sequence[ScoredQuestion]) -> dict[str, list[Score]]:
        by_ids: dict[tuple[int, ...], list[ScoredQuestion]] = {}
        for question in questions:
            by_ids.setdefault(question.choice_ids, []).append(question)
        size = QUESTIONS_PER_REQUEST
        batches = [group[i : i + size] for group in by_ids.values() for i in range(0, len(group), size)]
        progress = Progress(f"log-likelihood {self.endpoint.model}", len(questions), "questions")
        scores: dict[str, list[Score]] = {}
        concurrency = max(1, self._concurrent // size)
        async with EndpointClient(self.endpoint, self._key, concurrency=concurrency) as client:

            async def ask(batch: Sequence[ScoredQuestion]) -> None:
                found = read_batch(await client.post("/completions", describe_request(way, batch)), batch)
                scores.update(found)
                for custom_id, score in found.items():
                    self._part.append({"custom_id": custom_id, "scores": score, "scoring": way})
                progress.advance(len(batch), retries=client.retries)

            if batches:
                await ask(batches[0])  # the probe: a server that cannot do this says so before the wave
            await gather_all(ask(batch) for batch in batches[1:])
        self.retried.update(client.retried)
        progress.finish(truncated=self.truncated)
        return scores

    def _score_by_echo(self, groups: Sequence[Sequence[Instance]]) -> dict[str, list[Score]]:
        """Score in lm-eval's own way, some questions at a time, so that a kill loses no more than those."""
        progress = Progress(f"log-likelihood by {ECHO} {self.endpoint.model}", len(groups), "questions")
        scores: dict[str, list[Score]] = {}
        for first in range(0, len(groups), QUESTIONS_PER_ECHO):
            part = groups[first : first + QUESTIONS_PER_ECHO]
            with _shared_key(self._key):
                flat = iter(super().loglikelihood([i for group in part for i in group], disable_tqdm=True))
            for group in part:
                custom_id = request_id(group[0])
                scores[custom_id] = [next(flat) for _ in group]
                self._part.append({"custom_id": custom_id, "scores": scores[custom_id], "scoring": ECHO})
            progress.advance(len(part))
        return scores


def _load_tokenizer(content: bytes) -> Tokenizer:
    tokenizer = Tokenizer.from_str(content.decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _group_by_question(requests: Sequence[Instance]) -> list[list[Instance]]:
    groups: dict[str, list[Instance]] = {}
    for request in requests:
        groups.setdefault(request_id(request), []).append(request)
    return list(groups.values())


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
