"""The hook: an Airflow connection of type `ray` as a client of the Ray Jobs REST API.

Connection: host, port (8265) and schema (`http` or `https`) say where the head's dashboard is, the password is the cluster's
token. Without a password the token is taken from `RAY_AUTH_TOKEN`, else from the file named by `RAY_AUTH_TOKEN_PATH`. Extra:
`dashboard_url` (the same server as a browser reaches it), `ca_file` (certificates for https).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from airflow.sdk import BaseHook

from rayjob_provider.exceptions import RayAuthError, RayJobError, RayJobNotFound, RayJobsUnreachable
from rayjob_provider.job import JobDetails, JobRequest
from rayjob_provider.job_log import JobLogCursor, LogBodyDecoder
from rayjob_provider.jobs_api import (
    RayEndpoint,
    check_answer,
    job_path,
    naming_transport_errors,
    read_details,
    read_json,
)

if TYPE_CHECKING:
    from airflow.sdk import Connection

DEFAULT_PORT = 8265


@dataclass(frozen=True)
class RayCluster:
    """What a preflight learns about a cluster.

    Attributes:
        is_token_enforced: Whether a request without a token is refused. Where it is not, everybody who reaches the port
            may run code there (CVE-2023-48022).
    """

    ray_version: str
    session_name: str
    is_token_enforced: bool


class RayJobHook(BaseHook):
    """Submit, watch and stop jobs of one Ray cluster. It logs no token.

    Args:
        ray_conn_id: Airflow connection of type `ray`.
    """

    conn_name_attr = "ray_conn_id"
    default_conn_name = "ray_default"
    conn_type = "ray"
    hook_name = "Ray Jobs"

    def __init__(self, ray_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.ray_conn_id = ray_conn_id
        self._endpoint: RayEndpoint | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Describe the form of the connection."""
        return {
            "hidden_fields": ["login"],
            "relabeling": {"password": "Token", "schema": "http or https"},
            "placeholders": {"host": "ray-head", "port": str(DEFAULT_PORT), "schema": "http"},
        }

    @property
    def endpoint(self) -> RayEndpoint:
        """Where the cluster is, looked up once."""
        if self._endpoint is None:
            self._endpoint = _endpoint_of(self.get_connection(self.ray_conn_id))
        return self._endpoint

    async def load_endpoint(self) -> RayEndpoint:
        """Look the connection up without blocking an event loop."""
        if self._endpoint is None:
            self._endpoint = _endpoint_of(await self.aget_connection(self.ray_conn_id))
        return self._endpoint

    def check(self) -> RayCluster:
        """Ask the cluster who it is, for a preflight.

        Raises:
            RayJobsUnreachable: If nothing, or something that is not Ray, answers.
            RayAuthError: If the token is missing or wrong.
        """
        body = self._request("GET", "/api/version")
        try:
            open_endpoint = replace(self.endpoint, token=None)
            self._request("GET", "/api/version", endpoint=open_endpoint)
            is_token_enforced = False
        except RayAuthError:
            is_token_enforced = True
        return RayCluster(str(body.get("ray_version")), str(body.get("session_name")), is_token_enforced)

    def test_connection(self) -> tuple[bool, str]:
        """Answer the test button of the connection form."""
        try:
            cluster = self.check()
        except RayJobError as error:
            return False, error.message
        return True, f"Ray {cluster.ray_version}, " + (
            "token required" if cluster.is_token_enforced else "OPEN: no token required"
        )

    def submit(self, request: JobRequest, *, log_start: int = 0) -> None:
        """Submit a job once. A lost answer leaves open whether it was accepted: ask `find` before doing it again.

        Args:
            request: What is to run.
            log_start: Length of the log that earlier runs of this id left behind.

        Raises:
            RayJobExists: If the id is taken.
            RayJobRejected: If the request is of the wrong form.
            RayJobsUnreachable, RayAuthError: See `check`.
        """
        self._request("POST", "/api/jobs/", request.submission_id, json=request.to_body(log_start=log_start))

    def status(self, submission_id: str) -> JobDetails:
        """Return the job's details.

        Raises:
            RayJobNotFound: If the cluster does not know it.
            RayJobsUnreachable, RayAuthError: See `check`.
        """
        return read_details(self._request("GET", job_path(submission_id), submission_id), self.endpoint)

    def find(self, submission_id: str) -> JobDetails | None:
        """Return the job's details, or None if the cluster does not know it."""
        try:
            return self.status(submission_id)
        except RayJobNotFound:
            return None

    def logs(self, submission_id: str, cursor: JobLogCursor, *, is_final: bool = False) -> list[str]:
        """Move the cursor over what is new in the job's log and return the lines to forward.

        Raises:
            RayJobNotFound, RayJobsUnreachable, RayAuthError: See `status`.
        """
        for _ in range(2):
            cursor.start_read()
            decoder = LogBodyDecoder()
            with (
                naming_transport_errors(self.endpoint),
                httpx.Client(**self.endpoint.client_options()) as client,
                client.stream("GET", job_path(submission_id, "logs")) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    response.read()
                    check_answer(response, self.endpoint, submission_id)
                for piece in response.iter_text():
                    cursor.feed(_decode(decoder, piece, self.endpoint))
            if not cursor.is_ahead_of_log:
                break
        return cursor.end_read(is_final=is_final)

    def stop(self, submission_id: str) -> None:
        """Ask Ray to stop a job; a job that waits for resources is stopped only once it gets them.

        Raises:
            RayJobNotFound, RayJobsUnreachable, RayAuthError: See `status`.
        """
        self._request("POST", job_path(submission_id, "stop"), submission_id)

    def delete(self, submission_id: str) -> None:
        """Delete the record of a job that is over; one that is gone already is fine.

        Raises:
            RayJobsUnreachable, RayAuthError: See `check`. Also when the job is not over, which Ray answers with a 500.
        """
        try:
            self._request("DELETE", job_path(submission_id), submission_id)
        except RayJobNotFound:
            self.log.debug("Job %s was deleted by somebody else.", submission_id)

    @asynccontextmanager
    async def open_async(self) -> AsyncIterator[AsyncRayJobs]:
        """Open the part of the API that a trigger needs, on one pooled client."""
        endpoint = await self.load_endpoint()
        async with httpx.AsyncClient(**endpoint.client_options()) as client:
            yield AsyncRayJobs(endpoint, client)

    def _request(
        self,
        method: str,
        path: str,
        submission_id: str | None = None,
        *,
        endpoint: RayEndpoint | None = None,
        json: Any = None,
    ) -> dict[str, Any]:
        endpoint = endpoint or self.endpoint
        with naming_transport_errors(endpoint), httpx.Client(**endpoint.client_options()) as client:
            response = client.request(method, path, json=json)
        check_answer(response, endpoint, submission_id)
        return read_json(response, endpoint)


class AsyncRayJobs:
    """The calls of `RayJobHook` that must not block a triggerer's loop; same meaning, same errors."""

    def __init__(self, endpoint: RayEndpoint, client: httpx.AsyncClient) -> None:
        self.endpoint = endpoint
        self._client = client

    async def status(self, submission_id: str) -> JobDetails:
        """Return the job's details; see `RayJobHook.status`."""
        return read_details(await self._request("GET", job_path(submission_id), submission_id), self.endpoint)

    async def stop(self, submission_id: str) -> None:
        """Ask Ray to stop a job; see `RayJobHook.stop`."""
        await self._request("POST", job_path(submission_id, "stop"), submission_id)

    async def logs(self, submission_id: str, cursor: JobLogCursor, *, is_final: bool = False) -> list[str]:
        """Move the cursor over what is new in the job's log; see `RayJobHook.logs`."""
        for _ in range(2):
            cursor.start_read()
            decoder = LogBodyDecoder()
            with naming_transport_errors(self.endpoint):
                async with self._client.stream("GET", job_path(submission_id, "logs")) as response:
                    if response.status_code != httpx.codes.OK:
                        await response.aread()
                        check_answer(response, self.endpoint, submission_id)
                    async for piece in response.aiter_text():
                        cursor.feed(_decode(decoder, piece, self.endpoint))
            if not cursor.is_ahead_of_log:
                break
        return cursor.end_read(is_final=is_final)

    async def _request(self, method: str, path: str, submission_id: str) -> dict[str, Any]:
        with naming_transport_errors(self.endpoint):
            response = await self._client.request(method, path)
        check_answer(response, self.endpoint, submission_id)
        return read_json(response, self.endpoint)


def _decode(decoder: LogBodyDecoder, piece: str, endpoint: RayEndpoint) -> str:
    try:
        return decoder.feed(piece)
    except ValueError as error:
        raise RayJobsUnreachable(
            f"{endpoint.base_url} answered a request for a log with something else: {error}."
        ) from error


def _endpoint_of(connection: Connection) -> RayEndpoint:
    """Read an Airflow connection.

    Raises:
        RayJobsUnreachable: If it names no host.
    """
    host = (connection.host or "").rstrip("/")
    if not host:
        raise RayJobsUnreachable(
            f"The Airflow connection {connection.conn_id!r} has no host; expected that of a Ray head's dashboard."
        )
    scheme, _, name = host.rpartition("://")
    base_url = f"{scheme or connection.schema or 'http'}://{name}:{connection.port or DEFAULT_PORT}"
    extra = connection.extra_dejson
    return RayEndpoint(
        base_url=base_url,
        token=(connection.password or _token_of_environment() or "").strip() or None,
        dashboard_url=str(extra.get("dashboard_url") or base_url),
        ca_file=extra.get("ca_file"),
    )


def _token_of_environment() -> str | None:
    """Return the token as Ray's own clients find it.

    Raises:
        RayAuthError: If RAY_AUTH_TOKEN_PATH names a file that cannot be read.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RayAuthError(
            f"RAY_AUTH_TOKEN_PATH names {path}, which cannot be read ({error.strerror}); expected a file with the token."
        ) from error
