"""A stand-in for a Ray head: a real HTTP server on loopback that speaks the Jobs API as Ray 2.60 does.

It knows no processes. A test says which statuses a job shows, one per look, and which requests go wrong.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "the-cluster-token"
DUPLICATE = (
    "Traceback ...\nRuntimeError: ValueError: Job with submission_id {} already exists. Please use a different id.\n.\n"
)


@dataclass
class Job:
    """One record; `statuses` are shown one per GET, the last one for ever."""

    statuses: list[str]
    log: str = ""
    message: str = ""
    exit_code: int | None = None
    error_type: str | None = None
    end_time_ms: int = 1_000
    body: dict[str, Any] = field(default_factory=dict)

    def show(self) -> dict[str, Any]:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        is_over = status in ("SUCCEEDED", "FAILED", "STOPPED")
        return {
            "type": "SUBMISSION", "submission_id": self.body.get("submission_id", "job-1"), "status": status,
            "message": self.message, "error_type": self.error_type, "driver_exit_code": self.exit_code,
            "metadata": self.body.get("metadata"), "start_time": 1, "end_time": self.end_time_ms if is_over else None,
        }  # fmt: skip


class RayStandIn:
    """State of the head: jobs by id, what a submission turns into, faults, and every request that was seen."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.next_job = lambda: Job(["PENDING", "RUNNING", "SUCCEEDED"], log="hello from the job\n")
        self.faults: list[tuple[str, int, str]] = []  # (method, HTTP status, text), used up in order
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self.is_token_required = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, payload = outer.handle(self.command, self.path, self.headers.get("Authorization"), body)
                data = (payload if isinstance(payload, str) else json.dumps(payload)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def count(self, method: str, ending: str = "") -> int:
        return sum(seen == method and path.endswith(ending) for seen, path in self.requests)

    def handle(self, method: str, path: str, authorization: str | None, body: Any) -> tuple[int, Any]:
        self.requests.append((method, path))
        if self.is_token_required and not authorization:
            return 401, "Unauthorized: Missing authentication token"
        if self.is_token_required and authorization != f"Bearer {TOKEN}":
            return 403, "Forbidden: Invalid authentication token"
        if self.faults and self.faults[0][0] in (method, "*"):
            _, status, text = self.faults.pop(0)
            return status, text
        if path == "/api/version":
            return 200, {"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "session_x"}
        if path == "/api/jobs/" and method == "POST":
            return self.submit(body)
        job_id, _, action = path.removeprefix("/api/jobs/").partition("/")
        if job_id not in self.jobs:
            return 404, f"Job {job_id} does not exist"
        return self.act(method, job_id, action)

    def submit(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.bodies.append(body)
        if body["submission_id"] in self.jobs:
            return 500, DUPLICATE.format(body["submission_id"])
        job = self.next_job()
        job.body = body
        self.jobs[body["submission_id"]] = job
        return 200, {"job_id": body["submission_id"], "submission_id": body["submission_id"]}

    def act(self, method: str, job_id: str, action: str) -> tuple[int, Any]:
        job = self.jobs[job_id]
        if method == "DELETE":
            if job.statuses[0] in ("PENDING", "RUNNING"):
                return 500, "RuntimeError: Attempted to delete job, but it is in a non-terminal state"
            del self.jobs[job_id]
            return 200, {"deleted": True}
        if action == "stop":
            if job.statuses[0] != "PENDING" and "unstoppable" not in job.message:
                job.statuses = ["STOPPED"]
            return 200, {"stopped": True}
        return 200, {"logs": job.log} if action == "logs" else job.show()
