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
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from demo.twin.ports import LOOPBACK, choose_port
from demo.twin.processes import MARK, end_marked, start_process
from voc.errors import PreflightError

REPOSITORY = Path(__file__).resolve().parents[2]
AIRFLOW_COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
AIRFLOW_USER = "admin"
START_TIMEOUT_S = 180
RAY_JOB_START_TIMEOUT_S = (
    86400  # a server waits in Ray's queue until there is room; Ray gives up after 900 s by default
)
OBJECT_STORE_BYTES = 200 * 2**20
_LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class TwinAddress:
    """Where a running twin can be found.

    Attributes:
        twin_id: The mark of its processes.
        airflow_url: Airflow's UI and REST API.
        ray_url: Ray's dashboard and Jobs API.
        ray_folder: Ray's temporary folder.
    """

    twin_id: str
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
        detached: Keep everything running when this process ends.
    """

    def __init__(
        self,
        home: Path,
        config: Path,
        airflow_python: Path,
        world: Path | None,
        *,
        num_cpus: int,
        detached: bool = False,
    ) -> None:
        self.home = home.absolute()
        self.config = config.absolute()
        self.airflow_python = airflow_python
        self.world = world
        self.num_cpus = num_cpus
        self.detached = detached
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
        twin_id = secrets.token_hex(8)
        airflow_port = choose_port("NIGHTFORGE_AIRFLOW_PORT", 8080)
        ray_port = choose_port("NIGHTFORGE_RAY_DASHBOARD_PORT", 8265)
        self.address = TwinAddress(
            twin_id,
            f"http://{LOOPBACK}:{airflow_port}",
            f"http://{LOOPBACK}:{ray_port}",
            tempfile.mkdtemp(prefix="nf-"),  # short: Ray puts Unix sockets below it, whose paths end at 107 bytes
        )
        (self.home / "twin.json").write_text(json.dumps(asdict(self.address)))
        try:
            processes = {
                "ray": start_process("ray", self._ray_command(), self._ray_environ(), self.logs, detached=self.detached)
            }
            environ = self._airflow_environ(airflow_port)
            self._migrate(environ)
            headers = {"Authorization": f"Bearer {self.ray_token}"}
            _wait_until_healthy(self, processes, f"{self.address.ray_url}/api/version", headers)
            for name in AIRFLOW_COMPONENTS:
                command = [str(self.airflow_python), "-m", "airflow", name]
                processes[f"airflow-{name}"] = start_process(
                    f"airflow-{name}", command, environ, self.logs, detached=self.detached
                )
            _wait_until_healthy(self, processes, f"{self.address.airflow_url}/api/v2/version", {})
        except BaseException:
            self.stop()
            raise
        return self.address

    def stop(self) -> None:
        """End every process of the twin and remove Ray's temporary folder."""
        if self.address is not None:
            stop_twin(self.address)
            (self.home / "twin.json").unlink(missing_ok=True)

    def log_tail(self, name: str) -> str:
        """Return the last lines of a component's log."""
        path = self.logs / f"{name}.log"
        if not path.is_file():
            return "(no log)"
        return "\n".join(path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])

    def _shared_environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "RAY_"))}
        environ = {
            **kept,
            MARK: self.address.twin_id if self.address else "",
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

    def _migrate(self, environ: dict[str, str]) -> None:
        command = [str(self.airflow_python), "-m", "airflow", "db", "migrate"]
        process = start_process("airflow-migrate", command, environ, self.logs, detached=False)
        if process.wait(timeout=START_TIMEOUT_S):
            raise PreflightError(
                f"`airflow db migrate` ended with {process.returncode}:\n{self.log_tail('airflow-migrate')}",
                remedy=f"read {self.logs}/airflow-migrate.log; delete {self.airflow_home} to start afresh",
            )


def stop_twin(address: TwinAddress) -> None:
    """End every process of a twin, here or started by another process, and remove its temporary folder."""
    end_marked(address.twin_id)
    shutil.rmtree(address.ray_folder, ignore_errors=True)


def _wait_until_healthy(
    twin: Twin, processes: dict[str, subprocess.Popen[bytes]], url: str, headers: dict[str, str]
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        for name, process in processes.items():
            if process.poll() is not None:
                raise PreflightError(
                    f"{name} ended with {process.returncode} while starting:\n{twin.log_tail(name)}",
                    remedy=f"read {twin.logs}/{name}.log",
                )
        try:
            if httpx.get(url, headers=headers, timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    first = next(iter(processes))
    raise PreflightError(
        f"{url} did not answer within {START_TIMEOUT_S} s:\n{twin.log_tail(first)}",
        remedy=f"read the logs in {twin.logs}",
    )


def _read_secrets(path: Path) -> dict[str, str]:
    """Return this twin's secrets, made on first use and readable by their owner only."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        names = ("airflow_password", "ray_token", "endpoint_key", "jwt_secret", "api_secret")
        made = {name: secrets.token_urlsafe(24) for name in names}
        made["fernet_key"] = _make_fernet_key()
        path.touch(mode=0o600)
        path.write_text(json.dumps(made))
    values: dict[str, str] = json.loads(path.read_text())
    return values


def _make_fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
