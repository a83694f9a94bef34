"""One vLLM server on this machine's CPUs, for benchmarks of its clients."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evaluation.serving.endpoint import Endpoint, check_endpoint, get_json
from evaluation.serving.server_process import ServerProcess
from evaluation.serving.vllm_command import build_command, build_environment
from voc.config.serving import ServingConfig
from voc.errors import EndpointError

START_TIMEOUT_S = 900


@contextmanager
def serving(
    folder: Path, name: str, key: str, config: ServingConfig, digest: str = "", *, extra: Sequence[str] = ()
) -> Iterator[tuple[Endpoint, ServerProcess]]:
    """Serve a model folder under a name while the block runs, with `extra` words at the end of vLLM's command.

    Raises:
        EndpointError: If the server is not healthy in time.
    """
    with socket.socket() as probe:
        probe.bind((config.host, 0))
        port = probe.getsockname()[1]
    command = [*build_command(config, folder, name, host=config.host, port=port), *extra]
    server = ServerProcess(command, build_environment(config, key, os.environ), secret=key)
    url = f"http://{config.host}:{port}/v1"
    try:
        _wait(server, url, name, key)
        version = get_json(f"{url.removesuffix('/v1')}/version")["version"]
        yield Endpoint(url, name, digest, f"vllm {version}", ""), server
    finally:
        server.stop()


def _wait(server: ServerProcess, url: str, name: str, key: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            check_endpoint(url, name, key)
            return
        except EndpointError:
            if server.exit_code is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.5)
