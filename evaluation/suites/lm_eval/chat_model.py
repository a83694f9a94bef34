"""lm-eval's chat model over this pipeline's client: retries, a part file, and answers that a task's settings constrain.

A chat whose last turn is the assistant's is continued, not answered (lm-eval's `gen_prefix`). A chat that is too long keeps
its last `max_model_len - max_tokens` tokens, counted in `truncated`.
This module imports lm_eval, so it is itself imported inside functions only.

Source: https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/API_guide.md
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance  # noqa: TID253
from lm_eval.models.openai_completions import LocalChatCompletion  # noqa: TID253

from evaluation.clients.interface import ChatClient, Completion, PromptTooLongError, gather_all
from evaluation.clients.opening import open_client
from evaluation.serving.endpoint import Endpoint
from evaluation.shards.shard import PartFile
from evaluation.suites.lm_eval.request_ids import request_id
from voc.progress import Progress
from voc.prompts import Message

DEFAULT_MAX_TOKENS = 256
MAX_STOPS = 4  # the protocol's limit


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
