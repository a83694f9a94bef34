"""The check of `voc.preflight.preflight` that looks at further lm-eval tasks: whether the files that they name are there.

lm-eval is not in this environment: that a task exists, and that its packages do, is found by its first shard before it asks.
"""

from __future__ import annotations

from voc.config.lm_eval import LmEvalTaskConfig
from voc.errors import DataError
from voc.store.uri import open_uri

_TASK_SUFFIXES = (".yaml", ".yml", ".py")


def check_lm_eval_task(task: LmEvalTaskConfig, max_model_len: int) -> tuple[None, str]:
    """Look for a task's files, and whether its longest answer leaves room for a question.

    Raises:
        DataError: If a file or the folder is not there, or there is no room.
    """
    problems = []
    for split, uri in task.data_files.items():
        store, key = open_uri(uri)
        if not store.exists(key):
            problems.append(f"data_files.{split}: {uri} is not there")
    if task.folder is not None:
        store, key = open_uri(task.folder)
        if not any(found.endswith(_TASK_SUFFIXES) for found in store.list_keys(key)):
            problems.append(f"folder: {task.folder} has no task file")
    if (task.max_tokens or 0) >= max_model_len:
        problems.append(f"max_tokens {task.max_tokens} leaves no room in serving.max_model_len {max_model_len}")
    if problems:
        raise DataError("; ".join(problems), remedy=f"correct evaluation.lm_eval_tasks, {task.name}")
    source = ", ".join(task.data_files.values()) or "its own data set, which was not looked for"
    return None, f"{task.task_name} on {source}"
