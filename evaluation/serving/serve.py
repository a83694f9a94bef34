"""Serve one model of a run until told to stop: a vLLM OpenAI-compatible server as a child of this process.

    python -m evaluation serve --store-uri URI --run-id ID --model NAME

Reads: models.json, the model's folder (a candidate's is verified against its manifest first).
Writes: evaluation/<model>/endpoint.json once the server is healthy; removes it when the server ends. The server's log goes to
this process's output. Needs NIGHTFORGE_ENDPOINT_KEY. Ends with 0 after SIGTERM or SIGINT, which is how it is stopped.

A server that was healthy and crashes or hangs is started again at the same address, `serving.max_restarts` times; its record
stays, and clients wait for it. One that never was healthy is not tried again: it would fail again.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import threading
import time
from datetime import UTC, datetime
from types import FrameType

from evaluation.serving.endpoint import (
    Endpoint,
    check_endpoint,
    get_json,
    pin_name,
    read_key,
    remove_endpoint,
    write_endpoint,
)
from evaluation.serving.server_process import ServerProcess
from evaluation.serving.vllm_command import build_command, build_environment, write_settings
from voc.config.serving import CLUSTER_HOST
from voc.errors import EndpointError, ServingError
from voc.models.folder import cache_folder, check_model_folder, digest_model, localise_model
from voc.run import ModelEntry, Run, find_model, open_run
from voc.store.manifest import verify_directory
from voc.store.uri import open_uri

POLL_S = 0.25
HEALTH_EVERY_S = 15.0
HEALTH_MISSES = 8
PORT_ATTEMPTS = 3
STOP_RACE_S = 0.5  # whoever stops a job signals this process and the server at once, in any order
_PORT_TAKEN = "address already in use"


def run_serve(arguments: argparse.Namespace) -> None:
    """Open the run and serve."""
    serve(open_run(arguments.store_uri, arguments.run_id), arguments.model)


def serve(run: Run, model: str) -> None:
    """Serve a model until SIGTERM or SIGINT.

    Raises:
        ServingError: If the server does not become healthy in time, or dies more often than it may.
        ModelError: If the folder lacks a file.
        IntegrityError: If a candidate's export does not match its manifest.
    """
    key, entry = read_key(), find_model(run, model)
    remove_endpoint(run, model)  # of a server that was killed before it could
    digest = verify_model(entry)
    stop = threading.Event()
    with _StopSignals(stop):
        _Supervisor(run, entry, digest, key, stop).run()
    print(f"serve: {model} was stopped", flush=True)


class _Supervisor:
    """Starts a model's server, watches it, starts it again."""

    def __init__(self, run: Run, entry: ModelEntry, digest: str, key: str, stop: threading.Event) -> None:
        self._run, self._entry, self._digest, self._key, self._stop = run, entry, digest, key, stop
        self._name, self._host = pin_name(entry.name, digest), find_host(run.config.serving.host)
        self._settings = write_settings(cache_folder() / "vllm") if run.config.serving.num_nodes > 1 else None
        self._server: ServerProcess | None = None
        self._endpoint: Endpoint | None = None

    def run(self) -> None:
        """Serve until told to stop; whatever happens, no record and no process is left."""
        try:
            with self._run.timed(f"serve-{self._entry.name}"):
                url = self._start_anywhere()
            restarts = 0
            while not self._stop.is_set():
                try:
                    self._announce(url, restarts)
                    _supervise(self._running, url, self._name, self._key, self._stop)
                except ServingError as error:
                    if not self._stop.wait(STOP_RACE_S):
                        restarts = self._restart(url, restarts, error)
        finally:
            if self._endpoint is not None:  # first, because Ray kills three seconds after it asks
                remove_endpoint(self._run, self._entry.name, self._endpoint)
            if self._server is not None:
                self._server.stop()

    @property
    def _running(self) -> ServerProcess:
        if self._server is None:
            raise RuntimeError("no server was started")
        return self._server

    def _announce(self, url: str, restarts: int) -> None:
        serving = self._run.config.serving
        self._endpoint = Endpoint(
            url,
            self._name,
            self._digest,
            f"vllm {self._read_version(url)}",
            datetime.now(UTC).isoformat(timespec="seconds"),
            patience_s=float(serving.client_patience_s),
            restarts=restarts,
        )
        write_endpoint(self._run, self._entry.name, self._endpoint)
        print(f"serve: {self._entry.name} is healthy at {url}", flush=True)

    def _read_version(self, url: str) -> str:
        try:
            return str(get_json(f"{url.removesuffix('/v1')}/version")["version"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _died(self._running, f"the server of {self._name} does not tell its version: {error}") from error

    def _restart(self, url: str, restarts: int, error: ServingError) -> int:
        """Start the server again at its address until it is healthy; return how many restarts there were.

        Raises:
            ServingError: With the last crash, if no restart is left.
        """
        limit = self._run.config.serving.max_restarts
        while True:
            self._running.stop()
            if restarts >= limit:
                raise ServingError(
                    f"{error.problem}\nserve: {restarts} of {limit} restarts were used",
                    remedy=error.remedy,
                ) from error
            restarts += 1
            print(f"serve: {error.problem}serve: restart {restarts} of {limit}", flush=True)
            try:
                self._start(url, _port_of(url))
            except ServingError as again:
                error = again
            else:
                return restarts

    def _start_anywhere(self) -> str:
        host = self._host
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = pick_port(host)
            url = build_url(host, port)
            try:
                self._start(url, port)
            except ServingError:
                if attempt == PORT_ATTEMPTS or not any(_PORT_TAKEN in line.lower() for line in self._running.tail):
                    raise
                self._running.stop()
                print(f"serve: port {port} was taken by somebody else, trying another one", flush=True)
            else:
                return url
        raise ServingError(f"no free port at {host} in {PORT_ATTEMPTS} attempts")

    def _start(self, url: str, port: int) -> None:
        serving, folder = self._run.config.serving, localise_model(self._entry.uri)
        print(f"serve: starting {self._name} from {folder} at {url}", flush=True)
        self._server = ServerProcess(
            build_command(serving, folder, self._name, host=self._host, port=port),
            build_environment(serving, self._key, os.environ, settings=self._settings),
            secret=self._key,
        )
        _wait_until_healthy(self._server, url, self._name, self._key, self._stop, timeout_s=serving.start_timeout_s)


def verify_model(entry: ModelEntry) -> str:
    """Check a model's folder and return its digest; every file of a candidate is compared with its manifest.

    Raises:
        ModelError: If a needed file is missing.
        IntegrityError: If a candidate has no manifest or a file was changed after it.
    """
    check_model_folder(entry.uri)
    if entry.role == "candidate":
        return verify_directory(*open_uri(entry.uri)).digest
    return entry.digest or digest_model(entry.uri)


def pick_port(host: str) -> int:
    """Return a port of `host` that is free now.

    Somebody else may take it before the server binds it, some seconds later: then the server says so and is started again
    with another one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise ServingError(
                f"no port can be bound at {host!r}: {error}",
                expected="an address of this machine",
                remedy="set serving.host",
            ) from error
        return int(probe.getsockname()[1])


def find_host(host: str) -> str:
    """Return the address to bind; `cluster` becomes the address under which the Ray cluster knows this machine."""
    if host != CLUSTER_HOST:
        return host
    from ray.util import get_node_ip_address

    return str(get_node_ip_address())


def build_url(host: str, port: int) -> str:
    """Return the address for clients."""
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _port_of(url: str) -> int:
    return int(url.removesuffix("/v1").rpartition(":")[2])


def _wait_until_healthy(
    server: ServerProcess, url: str, model: str, key: str, stop: threading.Event, *, timeout_s: float
) -> None:
    start, problem = time.monotonic(), "nothing yet"
    while not stop.wait(POLL_S):
        if server.exit_code is not None:
            raise _died(server, f"the server of {model} ended with exit code {server.exit_code} while it started")
        try:
            check_endpoint(url, model, key)
        except EndpointError as error:
            problem = str(error)
        else:
            print(f"serve: healthy after {time.monotonic() - start:.1f} s", flush=True)
            return
        if time.monotonic() - start > timeout_s:
            raise _died(
                server,
                f"the server of {model} is not healthy after {timeout_s:g} s (last answer: {problem})",
                remedy="raise serving.start_timeout_s, or read the log for what takes so long",
            )


def _supervise(server: ServerProcess, url: str, model: str, key: str, stop: threading.Event) -> None:
    """Return when told to stop; an engine that hangs or is gone behind a living API server counts as dead."""
    misses, next_check = 0, time.monotonic() + HEALTH_EVERY_S
    while not stop.wait(POLL_S):
        if server.exit_code is not None:
            raise _died(server, f"the server of {model} died with exit code {server.exit_code}")
        if time.monotonic() < next_check:
            continue
        next_check = time.monotonic() + HEALTH_EVERY_S
        try:
            check_endpoint(url, model, key)
            misses = 0
        except EndpointError as error:
            misses += 1  # a busy server may miss one
            print(f"serve: health check {misses} of {HEALTH_MISSES} failed: {error}", flush=True)
        if misses >= HEALTH_MISSES:
            raise _died(server, f"the server of {model} failed {HEALTH_MISSES} health checks in a row")


def _died(server: ServerProcess, problem: str, remedy: str = "the log above says why") -> ServingError:
    time.sleep(POLL_S)  # the last lines are still in the pipe
    return ServingError(f"{problem}; its last lines:\n" + "\n".join(server.tail[-20:]) + "\n", remedy=remedy)


class _StopSignals:
    """Turns SIGTERM and SIGINT into an event while it is open."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._previous: dict[int, object] = {}

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._set)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _set(self, number: int, _: FrameType | None) -> None:
        print(f"serve: {signal.Signals(number).name}, stopping", flush=True)
        self._stop.set()
