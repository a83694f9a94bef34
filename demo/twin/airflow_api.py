"""Airflow's REST API as the demo uses it: trigger a DAG, follow its tasks, read a task's log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from demo.twin.services import AIRFLOW_USER
from voc.errors import PreflightError

FINISHED_RUN = frozenset({"success", "failed"})
DAG_TIMEOUT_S = 120
REQUEST_TIMEOUT_S = 30
BUSY_TIMEOUT_S = 300


class AirflowApi:
    """A logged-in client.

    Args:
        url: Airflow's address.
        password: Password of the user `admin`.
    """

    def __init__(self, url: str, password: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S)
        answer = self._client.post("/auth/token", json={"username": AIRFLOW_USER, "password": password})
        answer.raise_for_status()
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _call(self, method: str, path: str, **options: Any) -> Any:
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                answer = self._client.request(method, f"/api/v2{path}", **options)
                break
            except httpx.TransportError as error:
                # Reading again is harmless; a crowded machine can keep the server busy for longer than one timeout.
                if method != "GET" or time.monotonic() > deadline:
                    raise PreflightError(
                        f"Airflow did not answer {method} {path}: {error!r}", remedy="read the api-server's log"
                    ) from error
                time.sleep(1)
        if answer.is_error:
            raise PreflightError(
                f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}",
                remedy="read the api-server's log",
            )
        return answer.json()

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until the DAG processor has parsed a DAG.

        Raises:
            PreflightError: If its file has an import error, or it does not appear in time.
        """
        deadline = time.monotonic() + DAG_TIMEOUT_S
        while time.monotonic() < deadline:
            answer = self._client.get(f"/api/v2/dags/{dag_id}")
            if answer.status_code == httpx.codes.OK:
                return
            for error in self._call("GET", "/importErrors")["import_errors"]:
                if error["filename"].endswith(f"{dag_id}.py"):
                    raise PreflightError(f"{error['filename']} cannot be loaded:\n{error['stack_trace']}")
            time.sleep(1)
        raise PreflightError(f"Airflow does not know the DAG {dag_id!r} after {DAG_TIMEOUT_S} s")

    def trigger(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        """Unpause a DAG, start a run and return its run id."""
        self._call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})
        run = self._call("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": dict(conf)})
        run_id: str = run["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        state: str = self._call("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return all task instances of a run."""
        found: list[dict[str, Any]] = []
        while True:
            page = self._call(
                "GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", params={"limit": 100, "offset": len(found)}
            )
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self._call("GET", path, params={"deserialize": False, "stringify": False})["value"]

    def log_lines(self, dag_id: str, run_id: str, instance: Mapping[str, Any]) -> list[str]:
        """Return the log of a task instance's last try, a line an entry."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{instance['task_id']}/logs/{instance['try_number']}"
        content = self._call("GET", path, params={"map_index": instance["map_index"]})["content"]
        if isinstance(content, str):
            return content.splitlines()
        return [line for entry in content for line in _log_entry_lines(entry)]


def _log_entry_lines(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return str(entry).splitlines()
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return [line for text in (entry["event"], *errors) for line in text.splitlines()]
