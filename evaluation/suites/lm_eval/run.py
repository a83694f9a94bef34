"""lm-eval as this pipeline uses it: one served model, tasks by name, samples in memory.

lm_eval is imported inside functions only.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from evaluation.serving.endpoint import find_served_model, read_card, read_key
from evaluation.shards.shard import PartFile
from voc.errors import ModelError
from voc.models.folder import digest_model, read_model_file
from voc.run import Run, find_model

ModelKind = Literal["chat", "log_likelihood"]


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
    from evaluation.suites.lm_eval.chat_model import ChatModel
    from evaluation.suites.lm_eval.log_likelihood_model import LogLikelihoodModel

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


def ask_tasks(
    lm: Any,
    tasks: Sequence[Any],
    *,
    task_folder: Path | None,
    metadata: Mapping[str, Any],
    is_chat: bool,
    system_prompt: str | None = None,
    generation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Let lm-eval ask every document of tasks that are found in a folder.

    Args:
        lm: From `make_model`.
        tasks: Names of tasks.
        task_folder: Where their files are.
        metadata: What the task files' functions are called with.
        is_chat: Whether questions become chats.
        system_prompt: System turn of the chats.
        generation: Settings that replace the tasks' own `generation_kwargs` of these names.

    Returns:
        lm-eval's results with `samples` and `versions`.
    """
    silence()
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(task_folder), include_defaults=False, metadata=dict(metadata))
    loaded = manager.load(list(tasks))
    for task in loaded["tasks"].values():
        if generation:
            task.set_config("generation_kwargs", dict(generation), update=True)
    # Not simple_evaluate: it also describes the machine, for which it imports torch and runs pip.
    results: Any = evaluate(
        lm, loaded, apply_chat_template=is_chat, system_instruction=system_prompt, bootstrap_iters=0
    )
    return dict(results)


def silence() -> None:
    """Keep lm-eval's bars and messages out of a job's log; call it before lm_eval is imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars become one endless line in a job's log
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
