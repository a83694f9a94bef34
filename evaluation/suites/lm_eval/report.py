"""The part of the report of the lm-eval tasks that the configuration names: one table of their metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from evaluation.suites.protocol import ReportPart, Section


class LmEvalReport(ReportPart):
    """Every metric of every task beside the base's."""

    templates: ClassVar[Path | None] = Path(__file__).parent / "templates"

    def list_sections(self, results: Mapping[str, Mapping[str, Any]]) -> Sequence[Section]:
        """Return the table of tasks, if there are any."""
        has_tasks = any(result.get("lm_eval_tasks") for result in results.values())
        return [Section("tasks", "Further tasks", is_above_notes=True)] if has_tasks else []
