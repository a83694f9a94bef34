"""An HTTP server that speaks Bedrock's wire format: Converse, batch jobs, errors as the service writes them.

It looks at what AWS looks at first: that a request is signed, by this key, for this region. Answers are a test's.
"""

import json
import random
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

ACCESS_KEY, SECRET_KEY = "AKIDSTANDIN", "a-secret-that-no-message-may-show"
MODEL, REGION = "us.amazon.nova-2-lite-v1:0", "us-east-1"
ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/"
REFUSALS = {
    "access": (403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
    "region": (403, "InvalidSignatureException", "Credential should be scoped to a valid region."),
    "model": (400, "ValidationException", "The provided model identifier is invalid."),
    "too_long": (400, "ValidationException", "Input is too long for requested model."),
    "throttled": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "not_ready": (429, "ModelNotReadyException", "The model is not ready."),
    "internal": (500, "InternalServerException", "The system encountered an unexpected error."),
    "unavailable": (503, "ServiceUnavailableException", "The service isn't currently available."),
    "model_error": (424, "ModelErrorException", "The model failed on this request."),
    "model_timeout": (408, "ModelTimeoutException", "The model took too long."),
}


@dataclass
class BedrockStandIn:
    """What the service knows and was asked.

    Attributes:
        answer: From the last user turn to the text of the answer, or to whole content blocks.
        failures: Names of `REFUSALS`, `half_body`, `half_json` or `close`, given first, one per request.
        refuse: From a Converse request to the name of a refusal, or None.
        read_input: Batch: from an S3 URI to its bytes; `write_output` puts bytes under one.
        statuses: Batch: what a job says, one per look; the last one stays.
        spoil: Batch: from an output row to what is written in its place, or None for nothing.
    """

    answer: object = staticmethod(lambda text: f"echo: {text}")
    failures: list = field(default_factory=list)
    refuse: object = staticmethod(lambda body: None)
    delay_s: float = 0.0
    requests: list = field(default_factory=list)
    jobs: dict = field(default_factory=dict)
    statuses: list = field(default_factory=lambda: ["Submitted", "InProgress", "Completed"])
    read_input: object = None
    write_output: object = None
    spoil: object = staticmethod(lambda row: row)
    url: str = ""

    @contextmanager
    def serving(self):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join(10)

    def converse(self, body):
        self.requests.append(body)
        content = self.answer(body["messages"][-1]["content"][0]["text"])
        blocks = content if isinstance(content, list) else [{"text": content}]
        words = sum(len(block.get("text", "").split()) for block in blocks)
        return {
            "output": {"message": {"role": "assistant", "content": blocks}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 7, "outputTokens": words, "totalTokens": 7 + words},
            "metrics": {"latencyMs": 12},
        }

    def create_job(self, body):
        name = f"job{len(self.jobs)}"
        self.jobs[ARN + name] = {"body": body, "looks": 0}
        return {"jobArn": ARN + name}

    def look_at_job(self, arn):
        job = self.jobs[arn]
        status = self.statuses[min(job["looks"], len(self.statuses) - 1)]
        job["looks"] += 1
        if status in {"Completed", "PartiallyCompleted"} and "done" not in job:
            job["done"] = True
            self._run_job(arn, job["body"])
        now = "2026-01-01T00:00:00Z"
        shown = {name: job["body"][name] for name in ("modelId", "roleArn", "inputDataConfig", "outputDataConfig")}
        return {"jobArn": arn, "status": status, "submitTime": now, "message": "what Bedrock says", **shown}

    def _run_job(self, arn, body):
        source = body["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        target = body["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"]
        rows = [json.loads(line) for line in self.read_input(source).splitlines()]
        rows = [self.spoil({**row, "modelOutput": self.converse(row["modelInput"])}) for row in rows]
        kept = [json.dumps(row) for row in rows if row is not None]
        random.Random(1).shuffle(kept)  # the service keeps no order
        folder = f"{target}{arn.rpartition('/')[2]}"
        self.write_output(f"{folder}/{source.rpartition('/')[2]}.out", "\n".join(kept).encode())
        self.write_output(f"{folder}/manifest.json.out", b'{"totalRecordCount": 1}')


class _Handler(BaseHTTPRequestHandler):
    service: BedrockStandIn
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        self._answer(body)

    def do_GET(self):
        self._answer(None)

    def _answer(self, body):
        service, path = self.service, unquote(self.path)
        scope = re.match(
            rf"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/\d+/([^/]+)/bedrock/", self.headers["Authorization"] or ""
        )
        if scope is None or scope[1] != REGION:
            return self._refuse("region")
        if path.startswith("/model-invocation-job"):
            job = path.removeprefix("/model-invocation-job").lstrip("/")
            return self._send(200, service.look_at_job(job) if job else service.create_job(body))
        failure = service.failures.pop(0) if service.failures else service.refuse(body)
        if path != f"/model/{MODEL}/converse":
            failure = "model"
        time.sleep(service.delay_s)
        if failure == "close":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if failure in {"half_body", "half_json"}:
            whole = json.dumps(service.converse(body)).encode()
            half = whole[: len(whole) // 2]
            return self._write(200, half, length=len(whole) if failure == "half_body" else len(half))
        return self._refuse(failure) if failure else self._send(200, service.converse(body))

    def _refuse(self, name):
        status, code, message = REFUSALS[name]
        self._send(status, {"message": message}, {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/"})

    def _send(self, status, document, headers=None):
        self._write(status, json.dumps(document).encode(), headers=headers)

    def _write(self, status, data, *, length=None, headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)
        if length is not None:
            self.close_connection = True

    def log_message(self, *_):
        pass
