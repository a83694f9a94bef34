"""lm-eval as this pipeline uses it: one served model, tasks as objects, samples in memory, an id for every question.

lm_eval is imported inside functions only.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from voc.models.folder import read_model_file

ModelKind = Literal["chat", "log_likelihood"]
# Where the Hugging Face layout keeps a chat template: a file of its own, or a key of the tokenizer's settings.
TEMPLATE_FILE, SETTINGS_FILE = "chat_template.jinja", "tokenizer_config.json"


def evaluate_tasks(
    lm: Any,
    tasks: Mapping[str, Any],
    *,
    is_chat: bool,
    docs: Mapping[str, Sequence[int]] | None = None,
    system_prompt: str | None = None,
) -> dict[str, Any]:
    """Return lm-eval's results of one model object, without what it would read of this machine."""
    silence()
    from lm_eval.evaluator import evaluate

    # Not simple_evaluate: it also describes the machine, for which it imports torch and runs pip.
    results: Any = evaluate(
        lm,
        {"tasks": dict(tasks), "groups": {}, "group_map": {}},
        samples=None if docs is None else dict(docs),
        apply_chat_template=is_chat,
        system_instruction=system_prompt,
        bootstrap_iters=0,
    )
    return dict(results)


def load_own_tasks(folder: Path, names: Sequence[str], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return lm-eval's task objects of some files of a folder; their functions are called with `metadata`."""
    silence()
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=dict(metadata))
    return dict(manager.load(list(names))["tasks"])


def read_chat_template(uri: str) -> str | None:
    """Return the chat template of a model folder, or None if it has none."""
    own = read_model_file(uri, TEMPLATE_FILE)
    if own is not None:
        return own.decode()
    settings = read_model_file(uri, SETTINGS_FILE)
    template = None if settings is None else json.loads(settings).get("chat_template")
    return template if template is None or isinstance(template, str) else json.dumps(template, sort_keys=True)


def silence() -> None:
    """Keep lm-eval's bars and messages out of a job's log; call it before lm_eval is imported."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars become one endless line in a job's log
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def request_id(request: Any) -> str:
    """Return the document's own `custom_id`, else `<task>-<document>`; the choices of one question share it.

    Args:
        request: An lm-eval Instance.
    """
    own = request.doc.get("custom_id") if isinstance(request.doc, dict) else None
    return str(own) if own is not None else make_id(request.task_name, request.doc_id)


def make_id(task: str, doc_id: int) -> str:
    """Return the id of a document that has none of its own."""
    return f"{task}-{doc_id:06d}"
