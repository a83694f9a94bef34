"""The link from a task instance to the job's page in the Ray dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class RayDashboardLink(BaseOperatorLink):
    """Open the job in the Ray dashboard.

    Airflow asks in the worker, at the end of each stretch of the task (also when it defers), and stores the answer. The
    connection's extra `dashboard_url` says how a browser reaches the dashboard.
    """

    name = "Ray job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the page's address; empty until the task knows its job."""
        return str(getattr(operator, "job_page", "") or "")
