"""In which ways a multiple-choice question is asked, and the exact words of each.

- `log_likelihood`: raw text, as lm-eval's stock `mmlu`; the most likely of four letters is the answer. *Knowledge.*
- `generative`: a chat, think step by step and close with one sentence; the text is read twice, strictly and leniently.
  *Knowledge and form.*
- `letter`: the same chat with the closing sentence begun for the model, which may only write one of four letters
  (structured output). *Knowledge through the chat, with the form given.*

The task files in `evaluation/suites/mmlu/tasks/` name `load_documents`; which data set, protocol and shard comes from the task
manager's metadata. A document carries its whole prompt: lm-eval compiles a template again for every question, 4 ms each.

Source: the reference study's protocol (generative);
https://docs.vllm.ai/en/latest/features/structured_outputs/ (letter).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from evaluation.shards.shard import Shard
from voc.config.night import MmluSuiteConfig
from voc.errors import DataError
from voc.mmlu import MmluItem, load_mmlu, load_mmlu_examples
from voc.prompts import (
    MMLU_LETTER_PREFIX,
    Message,
    render_mmlu_generative,
    render_mmlu_log_likelihood,
    render_mmlu_question,
)
from voc.store.manifest import digest_bytes, digest_json

TASK_FOLDER = Path(__file__).parent / "tasks"


def name_task(protocol: Protocol) -> str:
    """Return the name of a protocol's task, which is also its file's."""
    return f"nightforge_mmlu_{protocol}"


def load_documents(
    *, dataset: str, protocol: Protocol, limit: int | None, num_fewshot: int, shard: int, num_shards: int, **_: Any
) -> dict[str, Any]:
    """Return one shard's documents as lm-eval's `test` split.

    Args:
        dataset: As `voc.mmlu.load_mmlu` takes it.
        protocol: One of `evaluation.suites.mmlu.protocols`.
        limit: Only the first questions of the file, before it is shared over shards; None for all.
        num_fewshot: Examples of the same subject before each log-likelihood question.
        shard: Which shard.
        num_shards: How many there are.
        _: What lm-eval adds (the task's version).
    """
    import datasets

    items = Shard(shard, num_shards).pick(load_mmlu(dataset, limit))
    examples = tuple(load_mmlu_examples(dataset)) if num_fewshot and protocol == "log_likelihood" else ()
    asking = Asking(protocol, num_fewshot=num_fewshot, examples=examples)
    return {"test": datasets.Dataset.from_list(make_documents(items, asking))}


def make_documents(items: Sequence[MmluItem], asking: Asking) -> list[dict[str, str]]:
    """Return one document per item: custom_id, subject, prompt, answer.

    Raises:
        DataError: If a subject has fewer examples than asked for.
    """
    return [
        {
            "custom_id": item.custom_id,
            "subject": item.subject,
            "prompt": asking.render_user(item),
            "answer": item.answer,
        }
        for item in items
    ]


Protocol = Literal["log_likelihood", "generative", "letter"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


@dataclass(frozen=True, slots=True)
class Asking:
    """How every question of one protocol is asked.

    Attributes:
        protocol: Which one.
        num_fewshot: Solved examples before each log-likelihood question; the chats are zero-shot.
        system_prompt: System turn of the chats, or None.
        examples: The examples that `num_fewshot` are taken from.
    """

    protocol: Protocol
    num_fewshot: int = 0
    system_prompt: str | None = None
    examples: tuple[MmluItem, ...] = ()

    @property
    def is_chat(self) -> bool:
        """Whether the model's chat template is applied."""
        return self.protocol != "log_likelihood"

    def render_user(self, item: MmluItem) -> str:
        """Return what lm-eval gets as the document's prompt: the raw text, or the user turn.

        Raises:
            DataError: If the item's subject has fewer examples than asked for.
        """
        if self.is_chat:
            return render_mmlu_generative(item.question, item.choices)
        return render_log_likelihood(item, _pick_examples(self.examples, item.subject, self.num_fewshot))

    def render(self, item: MmluItem) -> str | list[Message]:
        """Return everything that is sent for one question, before the chat template."""
        user = self.render_user(item)
        if not self.is_chat:
            return user
        chat = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        chat.append({"role": "user", "content": user})
        if self.protocol == "letter":
            chat.append({"role": "assistant", "content": MMLU_LETTER_PREFIX})
        return chat

    def hash_prompt(self, item: MmluItem) -> str:
        """Return the hash of everything that is sent for one question, before the chat template."""
        return digest_json(self.render(item))

    def describe(self, items: Sequence[MmluItem], chat_template: str | None) -> dict[str, Any]:
        """Return what a manifest says about the asking: settings in words, texts as hashes.

        Args:
            items: The questions.
            chat_template: The model's; None where nobody can read it (a closed model) and for raw text.
        """
        template = chat_template if self.is_chat else None
        return {
            "num_fewshot": self.num_fewshot,
            "system_prompt_hash": None if self.system_prompt is None else digest_bytes(self.system_prompt.encode()),
            "chat_template_hash": None if template is None else digest_bytes(template.encode()),
            "prompts_hash": digest_json([self.hash_prompt(item) for item in items]),
        }


def make_asking(protocol: Protocol, suite: MmluSuiteConfig) -> Asking:
    """Return how a configuration asks in one protocol; reads the examples if there are any."""
    if protocol != "log_likelihood":
        return Asking(protocol, system_prompt=suite.system_prompt)
    examples = tuple(load_mmlu_examples(suite.dataset)) if suite.num_fewshot else ()
    return Asking(protocol, num_fewshot=suite.num_fewshot, examples=examples)


def hash_questions(asking: Asking, items: Sequence[MmluItem]) -> dict[str, str]:
    """Return the prompt hash of every item by its id."""
    return {item.custom_id: asking.hash_prompt(item) for item in items}


def suite_of(protocol: Protocol) -> str:
    """Return the name of a protocol's suite, which is part of object keys."""
    return f"mmlu_{protocol}"


def render_log_likelihood(item: MmluItem, examples: Sequence[MmluItem]) -> str:
    """Return lm-eval's stock text: what it is about, solved examples, the question."""
    asked = render_mmlu_log_likelihood(item.subject, item.question, item.choices)
    question = f"{render_mmlu_question(item.question, item.choices)}\nAnswer:"
    solved = "".join(f"{render_mmlu_question(e.question, e.choices)}\nAnswer: {e.answer}\n\n" for e in examples)
    return f"{asked.removesuffix(question)}{solved}{question}"


def _pick_examples(examples: Sequence[MmluItem], subject: str, count: int) -> list[MmluItem]:
    chosen = [example for example in examples if example.subject == subject][:count]
    if len(chosen) < count:
        raise DataError(
            f"the subject {subject!r} has {len(chosen)} examples",
            expected=f"{count} (evaluation.mmlu.num_fewshot)",
            remedy="use fewer examples or another data set",
        )
    return chosen
