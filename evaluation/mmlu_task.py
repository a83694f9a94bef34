"""The documents of the tasks in `evaluation/tasks/`, as lm-eval asks for them.

The task files name `load_documents`; which data set, shard and how many examples comes from the task manager's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.mmlu_data import MmluItem, load_mmlu, load_mmlu_examples
from evaluation.shards import Shard
from voc.errors import DataError
from voc.prompts import render_mmlu_question

TASK_FOLDER = Path(__file__).parent / "tasks"


def load_documents(
    dataset: str, limit: int | None, num_fewshot: int, shard: int, num_shards: int, **_: Any
) -> dict[str, Any]:
    """Return one shard's documents as lm-eval's `test` split.

    Args:
        dataset: As `evaluation.mmlu_data.load_mmlu` takes it.
        limit: Only the first questions of the file, before it is shared over shards; None for all.
        num_fewshot: Examples of the same subject before each question.
        shard: Which shard.
        num_shards: How many there are.
        _: What lm-eval adds (the task's version).
    """
    import datasets

    items = Shard(shard, num_shards).pick(load_mmlu(dataset, limit))
    examples = load_mmlu_examples(dataset) if num_fewshot else []
    return {"test": datasets.Dataset.from_list(make_documents(items, examples, num_fewshot))}


def make_documents(items: Sequence[MmluItem], examples: Sequence[MmluItem], num_fewshot: int) -> list[dict[str, Any]]:
    """Return one document per item.

    Raises:
        DataError: If a subject has fewer examples than asked for.
    """
    shown: dict[str, str] = {}
    for subject in {item.subject for item in items}:
        chosen = [example for example in examples if example.subject == subject][:num_fewshot]
        if len(chosen) < num_fewshot:
            raise DataError(
                f"the subject {subject!r} has {len(chosen)} examples",
                expected=f"{num_fewshot} (evaluation.mmlu.num_fewshot)",
                remedy="use fewer examples or another data set",
            )
        shown[subject] = "".join(map(render_example, chosen))
    return [
        {
            "custom_id": item.custom_id,
            "subject": item.subject,
            "slice": item.slice or "",
            "question": item.question,
            "choices": list(item.choices),
            "answer": item.answer,
            "examples": shown[item.subject],
        }
        for item in items
    ]


def render_example(example: MmluItem) -> str:
    """Return one solved question, as it stands before the asked one."""
    return f"{render_mmlu_question(example.question, example.choices)}\nAnswer: {example.answer}\n\n"
