"""The documents of the tasks in `evaluation/tasks/`, as lm-eval asks for them.

The task files name `load_documents`; which data set, protocol and shard comes from the task manager's metadata. A document
carries its whole prompt, made by `voc.prompts`: lm-eval compiles a template again for every question, 4 ms each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluation.shards import Shard
from voc.errors import DataError
from voc.mmlu import MmluItem, load_mmlu, load_mmlu_examples
from voc.prompts import render_mmlu_generative, render_mmlu_log_likelihood, render_mmlu_question

TASK_FOLDER = Path(__file__).parent / "tasks"


def load_documents(
    *, dataset: str, protocol: str, limit: int | None, num_fewshot: int, shard: int, num_shards: int, **_: Any
) -> dict[str, Any]:
    """Return one shard's documents as lm-eval's `test` split.

    Args:
        dataset: As `voc.mmlu.load_mmlu` takes it.
        protocol: `log_likelihood` or `generative`.
        limit: Only the first questions of the file, before it is shared over shards; None for all.
        num_fewshot: Examples of the same subject before each log-likelihood question.
        shard: Which shard.
        num_shards: How many there are.
        _: What lm-eval adds (the task's version).
    """
    import datasets

    items = Shard(shard, num_shards).pick(load_mmlu(dataset, limit))
    examples = load_mmlu_examples(dataset) if num_fewshot and protocol == "log_likelihood" else []
    return {"test": datasets.Dataset.from_list(make_documents(items, protocol, examples, num_fewshot))}


def make_documents(
    items: Sequence[MmluItem], protocol: str, examples: Sequence[MmluItem] = (), num_fewshot: int = 0
) -> list[dict[str, str]]:
    """Return one document per item: custom_id, subject, prompt, answer.

    Raises:
        DataError: If a subject has fewer examples than asked for.
    """
    if protocol == "generative":
        prompts = [render_mmlu_generative(item.question, item.choices) for item in items]
    else:
        shown = {s: _pick_examples(examples, s, num_fewshot) for s in {item.subject for item in items}}
        prompts = [render_log_likelihood(item, shown[item.subject]) for item in items]
    return [
        {"custom_id": item.custom_id, "subject": item.subject, "prompt": prompt, "answer": item.answer}
        for item, prompt in zip(items, prompts, strict=True)
    ]


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
