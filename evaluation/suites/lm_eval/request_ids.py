"""The id under which one question of an lm-eval task is kept, in part files and samples. Pure."""

from __future__ import annotations

from typing import Any


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
