"""Serve one model of a run until told to stop: a vLLM OpenAI-compatible server as a child of this process.

    python -m evaluation serve --store-uri URI --run-id ID --model NAME

Reads: models.json, the model's folder (a candidate's is verified against its manifest first).
Writes: evaluation/<model>/endpoint.json once the server is healthy; removes it when the server ends. The server's log goes to
this process's output. Needs NIGHTFORGE_ENDPOINT_KEY. Ends with 0 after SIGTERM or SIGINT, which is how it is stopped.
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

from evaluation.endpoint import Endpoint, check_endpoint, get_json, read_key, remove_endpoint, write_endpoint
from evaluation.server_process import ServerProcess
from evaluation.vllm_command import build_command, build_environment
from voc.config import ServingConfig
from voc.errors import EndpointError, ServingError
from voc.manifest import verify_directory
from voc.model_folder import check_model_folder, digest_model, localise_model
from voc.run import ModelEntry, Run, add_run_arguments, find_model, open_run
from voc.store import open_uri

POLL_S = 0.25
HEALTH_EVERY_S = 15.0
HEALTH_MISSES = 8
PORT_ATTEMPTS = 3
_PORT_TAKEN = "address already in use"
_WILDCARDS = {"0.0.0.0", "::", ""}  # noqa: S104 - seen, not bound


def add_command(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `serve`."""
    parser = subparsers.add_parser("serve", help="serve a model until told to stop")
    add_run_arguments(parser)
    parser.add_argument("--model", required=True, help="name of a model in the run's models.json")
    parser.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> None:
    """Open the run and serve."""
    serve(open_run(arguments.store_uri, arguments.run_id), arguments.model)


def serve(run: Run, model: str) -> None:
    """Serve a model until SIGTERM or SIGINT.

    Raises:
        ServingError: If the server does not become healthy in time, or dies.
        ModelError: If the folder lacks a file.
        IntegrityError: If a candidate's export does not match its manifest.
    """
    key, entry = read_key(), find_model(run, model)
    remove_endpoint(run, model)  # of a server that was killed before it could
    digest = verify_model(entry)
    stop = threading.Event()
    with _StopSignals(stop):
        server, endpoint = None, None
        try:
            with run.timed(f"serve-{model}"):
                server, url = _start_server(run.config.serving, entry, key, stop)
            if stop.is_set():
                return
            endpoint = _describe(url, model, digest)
            write_endpoint(run, model, endpoint)
            print(f"serve: {model} is healthy at {url}", flush=True)
            _supervise(server, url, model, key, stop)
        finally:
            if endpoint is not None:
                remove_endpoint(run, model, endpoint)  # first, because Ray kills three seconds after it asks
            if server is not None:
                server.stop()
        print(f"serve: {model} was stopped", flush=True)


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


def build_url(host: str, port: int) -> str:
    """Return the address for clients; a wildcard becomes this machine's own address."""
    reachable = socket.gethostbyname(socket.gethostname()) if host in _WILDCARDS else host
    return f"http://[{reachable}]:{port}/v1" if ":" in reachable else f"http://{reachable}:{port}/v1"


def _start_server(
    serving: ServingConfig, entry: ModelEntry, key: str, stop: threading.Event
) -> tuple[ServerProcess, str]:
    folder = localise_model(entry.uri)
    environment = build_environment(serving, key, os.environ)
    for attempt in range(1, PORT_ATTEMPTS + 1):
        port = pick_port(serving.host)
        url = build_url(serving.host, port)
        print(f"serve: starting {entry.name} from {folder} at {url}", flush=True)
        server = ServerProcess(build_command(serving, folder, entry.name, port), environment, secret=key)
        try:
            _wait_until_healthy(server, url, entry.name, key, stop, timeout_s=serving.start_timeout_s)
        except ServingError:
            server.stop()
            if attempt == PORT_ATTEMPTS or not any(_PORT_TAKEN in line.lower() for line in server.tail):
                raise
            print(f"serve: port {port} was taken by somebody else, trying another one", flush=True)
        except BaseException:
            server.stop()
            raise
        else:
            return server, url
    raise ServingError(f"no free port at {serving.host} in {PORT_ATTEMPTS} attempts")


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


def _describe(url: str, model: str, digest: str) -> Endpoint:
    version = get_json(f"{url.removesuffix('/v1')}/version")["version"]
    return Endpoint(url, model, digest, f"vllm {version}", datetime.now(UTC).isoformat(timespec="seconds"))


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
