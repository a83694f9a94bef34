"""Which processes make up the twin: the Ray head and Airflow's four components, with tokens, on loopback only."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from demo.twin.ports import LOOPBACK, choose_port
from demo.twin.processes import adopt_orphans, end_descendants, start_process
from voc.errors import PreflightError

REPOSITORY = Path(__file__).resolve().parents[2]
AIRFLOW_COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
AIRFLOW_USER = "admin"
ADDRESS_FILE = "twin.json"
START_TIMEOUT_S = 180
RAY_STARTED = "Ray runtime started."
RAY_START_ATTEMPTS = 3  # on a crowded machine Ray gives its own raylet up after 30 s
RAY_JOB_START_TIMEOUT_S = (
    86400  # a server waits in Ray's queue until there is room; Ray gives up after 900 s by default
)
OBJECT_STORE_BYTES = 200 * 2**20
_LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class TwinAddress:
    """Where a running twin can be found.

    Attributes:
        pid: The process that holds it.
        airflow_url: Airflow's UI and REST API.
        ray_url: Ray's dashboard and Jobs API.
        ray_folder: Ray's temporary folder.
    """

    pid: int
    airflow_url: str
    ray_url: str
    ray_folder: str


class Twin:
    """A Ray head and Airflow for one configuration, living in one folder.

    Args:
        home: Folder for databases, logs, secrets and the store.
        config: Configuration file of the DAGs.
        airflow_python: Interpreter of the Airflow environment; Ray's is the one that runs this.
        world: Value of NIGHTFORGE_WORLD for the configuration.
        num_cpus: Logical CPUs of the Ray head.
    """

    def __init__(self, home: Path, config: Path, airflow_python: Path, world: Path | None, *, num_cpus: int) -> None:
        self.home = home.absolute()
        self.config = config.absolute()
        self.airflow_python = airflow_python
        self.world = world
        self.num_cpus = num_cpus
        self.logs = self.home / "logs"
        self.airflow_home = self.home / "airflow"
        self.address: TwinAddress | None = None
        self._secrets = _read_secrets(self.home / "secrets.json")

    @property
    def airflow_password(self) -> str:
        """Password of the Airflow user `admin`."""
        return self._secrets["airflow_password"]

    @property
    def ray_token(self) -> str:
        """Token of the Ray head."""
        return self._secrets["ray_token"]

    def start(self) -> TwinAddress:
        """Start everything and return when it answers.

        Raises:
            ConfigError: If a fixed port is taken.
            PreflightError: If a component ends or does not answer in time; the message holds its last log lines.
        """
        shutil.rmtree(self.logs, ignore_errors=True)
        adopt_orphans()
        airflow_port = choose_port("NIGHTFORGE_AIRFLOW_PORT", 8080)
        ray_port = choose_port("NIGHTFORGE_RAY_DASHBOARD_PORT", 8265)
        self.address = TwinAddress(
            os.getpid(),
            f"http://{LOOPBACK}:{airflow_port}",
            f"http://{LOOPBACK}:{ray_port}",
            tempfile.mkdtemp(prefix="nf-"),  # short: Ray puts Unix sockets below it, whose paths end at 107 bytes
        )
        (self.home / ADDRESS_FILE).write_text(json.dumps(asdict(self.address)))
        try:
            environ = self._airflow_environ(airflow_port)
            ray = self._start_ray()
            self._migrate(environ)
            components = {
                f"airflow-{name}": start_process(
                    f"airflow-{name}", [str(self.airflow_python), "-m", "airflow", name], environ, self.logs
                )
                for name in AIRFLOW_COMPONENTS
            }
            url = f"{self.address.airflow_url}/api/v2/version"
            self._wait_until_healthy({"ray": ray, **components}, lambda: _answers(url, {}))
        except BaseException:
            self.stop()
            raise
        return self.address

    def stop(self) -> None:
        """End every process of the twin and remove Ray's temporary folder."""
        if self.address is not None:
            end_descendants()
            shutil.rmtree(self.address.ray_folder, ignore_errors=True)
            (self.home / ADDRESS_FILE).unlink(missing_ok=True)

    def _start_ray(self) -> subprocess.Popen[bytes]:
        url = f"{self.address.ray_url}/api/version" if self.address else ""
        headers = {"Authorization": f"Bearer {self.ray_token}"}
        for attempt in range(1, RAY_START_ATTEMPTS + 1):
            ray = start_process("ray", self._ray_command(), self._ray_environ(), self.logs)
            try:
                # The API answers before the node has joined, and the node may still give up.
                self._wait_until_healthy({"ray": ray}, lambda: RAY_STARTED in self._log_text("ray"))
                self._wait_until_healthy({"ray": ray}, lambda: _answers(url, headers))
                return ray
            except PreflightError as error:
                if attempt == RAY_START_ATTEMPTS:
                    raise
                print(
                    f"the Ray head did not start (try {attempt} of {RAY_START_ATTEMPTS}): {error.problem}", flush=True
                )
                end_descendants()
                (self.logs / "ray.log").unlink(missing_ok=True)
        raise RuntimeError("no attempt was made")

    def log_tail(self, name: str) -> str:
        """Return the last lines of a component's log."""
        return "\n".join(self._log_text(name).splitlines()[-_LOG_TAIL_LINES:])

    def _log_text(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.is_file() else "(no log)"

    def _shared_environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "RAY_"))}
        environ = {
            **kept,
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / name) for name in (".", "plugins", "dags")),
            "NIGHTFORGE_CONFIG": str(self.config),
            "NIGHTFORGE_STORE": os.environ.get("NIGHTFORGE_STORE") or (self.home / "store").as_uri(),
            "NO_PROXY": f"{LOOPBACK},localhost",
        }
        if self.world is not None:
            environ["NIGHTFORGE_WORLD"] = str(self.world)
        return environ

    def _ray_environ(self) -> dict[str, str]:
        bin_folder = Path(sys.executable).parent
        return {
            **self._shared_environ(),
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.ray_token,
            # Ray replaces a loopback node address by the machine's own, unless it thinks that it is on a desktop.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_worker_niceness": "0",  # 15 by default: on two shared cores the workers wait for everybody else
            "RAY_JOB_START_TIMEOUT_SECONDS": str(RAY_JOB_START_TIMEOUT_S),
            "NIGHTFORGE_ENDPOINT_KEY": self._secrets["endpoint_key"],
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

    def _ray_command(self) -> list[str]:
        if self.address is None:
            raise RuntimeError("the twin has no address yet")
        dashboard_port = self.address.ray_url.rpartition(":")[2]
        chosen = {
            "--port": choose_port("NIGHTFORGE_RAY_PORT"),
            "--ray-client-server-port": choose_port("NIGHTFORGE_RAY_CLIENT_PORT"),
            "--dashboard-agent-listen-port": choose_port("NIGHTFORGE_RAY_AGENT_PORT"),
            "--dashboard-agent-grpc-port": choose_port("NIGHTFORGE_RAY_AGENT_GRPC_PORT"),
            "--runtime-env-agent-port": choose_port("NIGHTFORGE_RAY_RUNTIME_ENV_PORT"),
            "--metrics-export-port": choose_port("NIGHTFORGE_RAY_METRICS_PORT"),
        }
        return [
            *[str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"],
            f"--node-ip-address={LOOPBACK}",
            f"--dashboard-host={LOOPBACK}",
            f"--dashboard-port={dashboard_port}",
            *[f"{flag}={port}" for flag, port in chosen.items()],
            f"--num-cpus={self.num_cpus}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            f"--temp-dir={self.address.ray_folder}",
        ]

    def _airflow_environ(self, port: int) -> dict[str, str]:
        self.airflow_home.mkdir(parents=True, exist_ok=True)
        passwords = self.airflow_home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({AIRFLOW_USER: self.airflow_password}))
        host, ray_port = LOOPBACK, int(self.address.ray_url.rpartition(":")[2]) if self.address else 0
        connection = {"conn_type": "ray", "host": host, "port": ray_port, "password": self.ray_token}
        settings = {
            "CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__EXECUTION_API_SERVER_URL": f"http://{host}:{port}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{AIRFLOW_USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "CORE__FERNET_KEY": self._secrets["fernet_key"],
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.airflow_home / 'airflow.db'}",
            "API__HOST": host,
            "API__PORT": str(port),
            "API__BASE_URL": f"http://{host}:{port}",
            "API__WORKERS": "1",
            "API__SECRET_KEY": self._secrets["api_secret"],
            "API_AUTH__JWT_SECRET": self._secrets["jwt_secret"],
            "LOGGING__WORKER_LOG_SERVER_HOST": host,
            "LOGGING__WORKER_LOG_SERVER_PORT": str(choose_port("NIGHTFORGE_WORKER_LOG_PORT")),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(choose_port("NIGHTFORGE_TRIGGER_LOG_PORT")),
            "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        }
        return {
            **self._shared_environ(),
            "AIRFLOW_HOME": str(self.airflow_home),
            "AIRFLOW_CONN_RAY_DEFAULT": json.dumps(connection),
            "NIGHTFORGE_SCHEDULE": os.environ.get("NIGHTFORGE_SCHEDULE", ""),
            **{f"AIRFLOW__{key}": value for key, value in settings.items()},
        }

    def _wait_until_healthy(
        self, processes: dict[str, subprocess.Popen[bytes]], is_healthy: Callable[[], bool]
    ) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for name, process in processes.items():
                if process.poll() is not None:
                    raise PreflightError(
                        f"{name} ended with {process.returncode} while starting:\n{self.log_tail(name)}",
                        remedy=f"read {self.logs}/{name}.log",
                    )
            if is_healthy():
                return
            time.sleep(0.5)
        names = ", ".join(processes)
        raise PreflightError(
            f"{names} did not answer within {START_TIMEOUT_S} s:\n{self.log_tail(next(iter(processes)))}",
            remedy=f"read the logs in {self.logs}",
        )

    def _migrate(self, environ: dict[str, str]) -> None:
        command = [str(self.airflow_python), "-m", "airflow", "db", "migrate"]
        process = start_process("airflow-migrate", command, environ, self.logs)
        if process.wait(timeout=START_TIMEOUT_S):
            raise PreflightError(
                f"`airflow db migrate` ended with {process.returncode}:\n{self.log_tail('airflow-migrate')}",
                remedy=f"read {self.logs}/airflow-migrate.log; delete {self.airflow_home} to start afresh",
            )


def read_address(home: Path) -> TwinAddress | None:
    """Return where the twin of a folder is, or None if none is alive there."""
    path = home / ADDRESS_FILE
    if not path.is_file():
        return None
    address = TwinAddress(**json.loads(path.read_text()))
    return address if Path(f"/proc/{address.pid}").exists() else None


def _answers(url: str, headers: dict[str, str]) -> bool:
    try:
        return httpx.get(url, headers=headers, timeout=5).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _read_secrets(path: Path) -> dict[str, str]:
    """Return this twin's secrets, made on first use and readable by their owner only."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        names = ("airflow_password", "ray_token", "endpoint_key", "jwt_secret", "api_secret")
        made = {name: secrets.token_urlsafe(24) for name in names}
        made["fernet_key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        path.touch(mode=0o600)
        path.write_text(json.dumps(made))
    values: dict[str, str] = json.loads(path.read_text())
    return values
