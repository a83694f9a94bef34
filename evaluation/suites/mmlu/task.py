"""The documents of the tasks in `evaluation/suites/mmlu/tasks/`, as lm-eval asks for them.

The task files name `load_documents`; which data set, protocol and shard comes from the task manager's metadata. A document
carries its whole prompt, made by `protocols`: lm-eval compiles a template again for every question, 4 ms each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.shards.shard import Shard
from evaluation.suites.mmlu.protocols import Asking, Protocol
from voc.mmlu import MmluItem, load_mmlu, load_mmlu_examples

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
