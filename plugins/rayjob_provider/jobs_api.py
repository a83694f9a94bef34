"""The Ray Jobs REST API: where it is, how to ask, and what an answer means. No Airflow in here.

Source: ray.dashboard.modules.job.job_head and ray._private.authentication.http_token_authentication, Ray 2.60:
401 no token, 403 wrong token, 404 "Job X does not exist", 400 a request of the wrong form, 500 everything else, a taken
submission id among it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from rayjob_provider.exceptions import RayAuthError, RayJobExists, RayJobNotFound, RayJobRejected, RayJobsUnreachable
from rayjob_provider.job import JobDetails

REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
_EXCERPT_CHARS = 600


@dataclass(frozen=True)
class RayEndpoint:
    """Where a cluster's Jobs API is. The token is in no `repr`.

    Attributes:
        base_url: Scheme, host and port, e.g. `http://ray-head:8265`.
        dashboard_url: The same server as a browser reaches it.
        ca_file: Certificates to trust for https instead of the system's.
    """

    base_url: str
    token: str | None = field(default=None, repr=False)
    dashboard_url: str = ""
    ca_file: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers that every request carries."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not appear in a log."""
        return (self.token,) if self.token else ()

    def client_options(self, timeout_s: float = REQUEST_TIMEOUT_S) -> dict[str, Any]:
        """Return the keyword arguments of an `httpx.Client` or `httpx.AsyncClient`; redirects are not followed."""
        # A context without certificates is what plain http needs; loading them would stall the triggerer's loop.
        is_tls = self.base_url.startswith("https")
        context = ssl.create_default_context(cafile=self.ca_file) if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        return {"base_url": self.base_url, "headers": self.headers, "timeout": timeout, "verify": context}

    def job_page(self, submission_id: str) -> str:
        """Return the address of the job's page in the Ray dashboard."""
        return f"{(self.dashboard_url or self.base_url).rstrip('/')}/#/jobs/{submission_id}"


def job_path(submission_id: str, action: str = "") -> str:
    """Return the path of a job, or of `stop` or `logs` below it."""
    return f"/api/jobs/{submission_id}" + (f"/{action}" if action else "")


@contextmanager
def naming_transport_errors(endpoint: RayEndpoint) -> Iterator[None]:
    """Turn httpx's errors of one request into `RayJobsUnreachable`."""
    try:
        yield
    except httpx.HTTPError as error:
        raise RayJobsUnreachable(
            f"No answer from the Ray Jobs API at {endpoint.base_url}: {type(error).__name__} {error}. Expected a Ray head that"
            " listens there: check that it runs, the connection's host and port, and the network between."
        ) from error


def check_answer(response: httpx.Response, endpoint: RayEndpoint, submission_id: str | None = None) -> None:
    """Return when the answer is good, else raise what it means. The body must have been read.

    Raises:
        RayAuthError: On 401 and 403.
        RayJobNotFound: On Ray's own 404.
        RayJobExists: On the 500 of a submission whose id is taken.
        RayJobRejected: On other 4xx.
        RayJobsUnreachable: On 5xx, redirects, and a 404 that does not come from Ray (an ingress without a backend).
    """
    code, excerpt = response.status_code, _excerpt(response.text)
    if code == httpx.codes.OK:
        return
    if code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        sent = "without a token" if endpoint.token is None else "with a token that it does not accept"
        raise RayAuthError(
            f"{endpoint.base_url} refused a request {sent} (HTTP {code}: {excerpt}). Expected the token of the cluster: set it"
            " as the password of the Airflow connection, or in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH where tasks run."
        )
    if code == httpx.codes.NOT_FOUND and "does not exist" in excerpt:
        raise RayJobNotFound(
            f"The cluster at {endpoint.base_url} does not know the job {submission_id} (HTTP 404). Expected its record: it was"
            " deleted, or the head was restarted without its state; clear the task to submit it again.",
            submission_id,
        )
    if code == httpx.codes.INTERNAL_SERVER_ERROR and "already exists" in response.text:
        raise RayJobExists(
            f"The cluster at {endpoint.base_url} has a job {submission_id} already; look at that one first.",
            submission_id,
        )
    if 400 <= code < 500 and code not in (404, 408, 425, 429):
        raise RayJobRejected(
            f"{endpoint.base_url} rejected the request for {submission_id} (HTTP {code}): {excerpt}", submission_id
        )
    raise RayJobsUnreachable(
        f"{endpoint.base_url} answered HTTP {code} to a request for {submission_id or 'the cluster'}: {excerpt}. Expected 200:"
        " a head that is starting or overloaded recovers by itself; otherwise see dashboard.log on the head.",
        submission_id,
    )


def read_json(response: httpx.Response, endpoint: RayEndpoint) -> dict[str, Any]:
    """Return the JSON object of a good answer.

    Raises:
        RayJobsUnreachable: If it is none, so whatever listens there is not Ray.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RayJobsUnreachable(
            f"{endpoint.base_url} answers, but not as a Ray Jobs API: {_excerpt(response.text)}. Expected JSON: check the"
            " connection's port (the dashboard's, 8265 by default)."
        )
    return body


def read_details(body: dict[str, Any], endpoint: RayEndpoint) -> JobDetails:
    """Return the details of a job.

    Raises:
        RayJobsUnreachable: If the body is that of something else.
    """
    try:
        return JobDetails.from_response(body)
    except (KeyError, TypeError) as error:
        raise RayJobsUnreachable(
            f"{endpoint.base_url} answered a request for a job with something else (keys {sorted(body)[:10]}). Expected the"
            " Ray Jobs API of version 4: check the connection's port."
        ) from error


def _excerpt(text: str) -> str:
    """Return the end of an answer's text in one line: of a traceback, the part that says what happened."""
    flat = " | ".join(line.strip() for line in text.strip().splitlines() if line.strip(" ."))
    return flat if len(flat) <= _EXCERPT_CHARS else "..." + flat[-_EXCERPT_CHARS:]
