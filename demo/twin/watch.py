"""Follow a DAG run in the terminal: a line whenever a task changes its state, and now and then one for what is running."""

from __future__ import annotations

import time
from typing import Any

from demo.twin.airflow_api import FINISHED_RUN, AirflowApi

POLL_S = 2.0
STILL_RUNNING_S = 30.0
_LOG_LINES = 40
_QUIET_STATES = frozenset({None, "scheduled", "queued"})


def task_label(instance: dict[str, Any]) -> str:
    """Name a task instance, with what it is mapped over."""
    if instance["map_index"] < 0:
        return str(instance["task_id"])
    return f"{instance['task_id']}[{instance.get('rendered_map_index') or instance['map_index']}]"


def follow_run(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """Print what happens until the run ends, and return its state."""
    start = last_line = time.monotonic()
    shown: dict[tuple[str, int], tuple[str | None, int]] = {}
    started: dict[tuple[str, int], float] = {}
    while True:
        state = api.run_state(dag_id, run_id)
        instances = api.task_instances(dag_id, run_id)
        now = time.monotonic()
        for instance in sorted(instances, key=lambda i: (i["start_date"] or "9", i["task_id"], i["map_index"])):
            key = (instance["task_id"], instance["map_index"])
            current = (instance["state"], instance["try_number"])
            if instance["state"] in _QUIET_STATES or shown.get(key) == current:
                continue
            shown[key] = current
            started.setdefault(key, now)
            attempt = f" (try {instance['try_number']})" if instance["try_number"] > 1 else ""
            elapsed = f"{now - started[key]:6.1f} s"
            print(
                f"[{now - start:6.1f} s] {task_label(instance):<42} {instance['state']:<16} {elapsed}{attempt}",
                flush=True,
            )
            last_line = now
        if state in FINISHED_RUN:
            return state
        if now - last_line >= STILL_RUNNING_S:
            busy = [task_label(i) for i in instances if i["state"] in {"running", "deferred"}]
            print(f"[{now - start:6.1f} s] still at work: {', '.join(busy) or 'the scheduler'}", flush=True)
            last_line = now
        time.sleep(POLL_S)


def describe_failure(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """Return the failed tasks with the last lines of their logs, the Ray job's included."""
    parts = []
    for instance in api.task_instances(dag_id, run_id):
        if instance["state"] == "failed":
            lines = api.log_lines(dag_id, run_id, instance)[-_LOG_LINES:]
            parts.append(f"--- {task_label(instance)} failed; the last lines of its log:\n" + "\n".join(lines))
    return "\n".join(parts) or "no task failed by itself: look at the scheduler's log"
