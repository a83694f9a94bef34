"""A Ray head for tests: a folder and ports of its own, on loopback, with a token, ended by the ids of its processes.

Used from both environments: nothing is imported from Ray but to look at what lives on the cluster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_ATTEMPTS = 3  # on a crowded machine Ray gives its own raylet up after 30 s
START_TIMEOUT_S = 130.0
STOP_TIMEOUT_S = 3.0
STARTED = "Ray runtime started."
_POLL_S = 0.3
# Ray's own, detached: Ray Data and Ray Train start them once on a cluster, and they live as long as it does.
RAYS_OWN_ACTORS = frozenset(
    {"_StatsActor", "_UsageCollectionActor", "_AutoscalingCoordinatorActor", "AutoscalingCoordinator"}
)


@dataclass(frozen=True)
class RayHead:
    """A running head."""

    address: str
    dashboard_port: int
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """What a driver needs to find it and to be let in."""
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def list_alive(self) -> list[str]:
        """Return the drivers, actors and placement groups that live on the cluster, without Ray's own that live as long as it.

        This looks without being a driver.
        """
        from ray._private.state import GlobalState
        from ray._raylet import GcsClientOptions

        state = GlobalState()
        state._initialize_global_state(
            GcsClientOptions.create(self.address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
        )
        try:
            alive = [f"driver {job['Entrypoint'][:200]!r}" for job in state.job_table() if not job["IsDead"]]
            actors = state.actor_table(None).values()
            alive += [
                f"actor {a['ActorClassName']} ({a['State']})"
                for a in actors
                if a["State"] != "DEAD" and a["ActorClassName"] not in RAYS_OWN_ACTORS
            ]
            groups = state.placement_group_table().values()
            alive += [f"placement group {g['name']!r} ({g['state']})" for g in groups if g["state"] != "REMOVED"]
            return alive
        finally:
            state.disconnect()


@contextmanager
def start_ray_head(
    *,
    num_cpus: int,
    token: str,
    on_loopback: bool = False,
    ray_python: Path = Path(sys.executable),
    answers: Callable[[RayHead], bool] = lambda _: True,
) -> Iterator[RayHead]:
    """Start a head, wait until its node has joined, and end it afterwards.

    Args:
        num_cpus: Logical CPUs of its node.
        token: What a driver must bring.
        on_loopback: Whether the node's address is 127.0.0.1. Drivers outside the cluster do not find it there, only its jobs do.
        ray_python: Interpreter of the Ray environment.
        answers: What must hold besides, such as an answer of the Jobs API.
    """
    for _ in range(START_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix="nf-"))  # short: paths of Unix sockets end at 107 bytes
        process, dashboard_port = _start(folder, ray_python, num_cpus, token, on_loopback=on_loopback)
        try:
            head = _wait_until_started(process, folder, answers, dashboard_port, token)
            if head is not None:
                yield head
                return
            log = (folder / "head.log").read_text(errors="replace")
        finally:
            _end(process)
            shutil.rmtree(folder, ignore_errors=True)
    raise RuntimeError(f"the Ray head did not come up in {START_ATTEMPTS} attempts:\n{log[-3000:]}")


def _start(
    folder: Path, ray_python: Path, num_cpus: int, token: str, *, on_loopback: bool
) -> tuple[subprocess.Popen[bytes], int]:
    gcs, client, dashboard, agent, agent_grpc, metrics, runtime_env = _find_free_ports(7)
    options = {
        "temp-dir": folder, "port": gcs, "ray-client-server-port": client, "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard, "dashboard-agent-listen-port": agent, "dashboard-agent-grpc-port": agent_grpc,
        "metrics-export-port": metrics, "runtime-env-agent-port": runtime_env,
        "num-cpus": num_cpus, "num-gpus": 0, "object-store-memory": 80_000_000,
    }  # fmt: skip
    command = [str(ray_python.parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    options |= {"node-ip-address": "127.0.0.1"} if on_loopback else {}
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "PYTHONPATH": ""}
    environment.pop("RAY_ADDRESS", None)
    if on_loopback:  # else Ray replaces the loopback address by the machine's own
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    environment["RAY_worker_niceness"] = "0"  # 15 by default: workers would wait for everybody else on these cores
    environment["PATH"] = f"{ray_python.parent}{os.pathsep}{environment['PATH']}"
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    return process, dashboard


def _find_free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:  # all at once, so that no port comes twice
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_started(
    process: subprocess.Popen[bytes], folder: Path, answers: Callable[[RayHead], bool], dashboard_port: int, token: str
) -> RayHead | None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at and process.poll() is None:
        # Its API answers before its node has joined.
        if STARTED in (folder / "head.log").read_text(errors="replace"):
            head = RayHead((folder / "ray_current_cluster").read_text().strip(), dashboard_port, token)
            if answers(head):
                return head
        time.sleep(_POLL_S)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the head by the ids of the processes that it started: those of its session, and their children."""
    family = {member for member in psutil.process_iter() if _find_session(member.pid) == process.pid}
    for member in list(family):
        with contextlib.suppress(psutil.NoSuchProcess):
            family.update(member.children(recursive=True))
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    _, alive = psutil.wait_procs(list(family), timeout=STOP_TIMEOUT_S)
    for member in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(timeout=10)


def _find_session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
