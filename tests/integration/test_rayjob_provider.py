"""The provider against a real Ray head with token authentication, and in a real Airflow DAG run.

Needs RAY_PYTHON, the interpreter of the Ray environment; runs itself in Airflow's. The head has its own folder and ports,
listens on loopback, and is ended by the ids of its own processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.sdk", reason="runs in the Airflow environment (AIRFLOW_PYTHON)")
RAY_PYTHON = os.environ.get("RAY_PYTHON")
if not RAY_PYTHON:
    pytest.skip("RAY_PYTHON names no Ray environment", allow_module_level=True)

import psutil  # noqa: E402

from rayjob_provider.exceptions import RayAuthError, RayJobFailed, RayJobStopped, RayJobsUnreachable  # noqa: E402
from rayjob_provider.hooks.ray_job import RayJobHook  # noqa: E402
from rayjob_provider.operators.ray_job import RayJobOperator, RayJobStopOperator  # noqa: E402
from rayjob_provider.triggers.ray_job import RayJobTrigger  # noqa: E402

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]
START_ATTEMPTS = 3
START_TIMEOUT_S = 130
TOKEN = "integration-token-of-this-test"
AIRFLOW = [sys.executable, "-m", "airflow"]
PLUGINS = Path(__file__).parents[2] / "plugins"
SLEEPER = ["python", "-c", "import time; print('awake', flush=True); time.sleep(120)"]
PRINT_ARGUMENTS = ["python", "-c", "import json, os; print('got', json.loads(os.environ['RAYJOB_ARGUMENTS']))"]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def connection(port: int, password: str | None = TOKEN) -> str:
    return json.dumps({"conn_type": "ray", "host": "127.0.0.1", "port": port, "password": password})


def end(process: subprocess.Popen[bytes]) -> None:
    """End the head by the ids of the processes that it started: those of its session, and their children."""
    family = {member for member in psutil.process_iter() if session_of(member.pid) == process.pid}
    for member in list(family):
        with_no_fuss(lambda member=member: family.update(member.children(recursive=True)))
    for member in family:
        with_no_fuss(member.terminate)
    _, alive = psutil.wait_procs(list(family), timeout=3)
    for member in alive:
        with_no_fuss(member.kill)
    process.wait(timeout=10)


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def with_no_fuss(action: Any) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return


@pytest.fixture(scope="module")
def ray_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    for _ in range(START_ATTEMPTS):  # On a crowded machine Ray gives its own raylet up after 30 s.
        folder = tmp_path_factory.mktemp("r")
        process, port = start_head(folder)
        try:
            if answers(port, process, folder / "head.log"):
                yield port
                return
        finally:
            end(process)
    pytest.fail(f"the Ray head did not come up:\n{(folder / 'head.log').read_text()[-3000:]}")


def start_head(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    gcs, dashboard, agent, agent_grpc, metrics, runtime_env = free_ports(6)
    options = {
        "temp-dir": folder, "node-ip-address": "127.0.0.1", "port": gcs, "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard, "dashboard-agent-listen-port": agent, "dashboard-agent-grpc-port": agent_grpc,
        "metrics-export-port": metrics, "runtime-env-agent-port": runtime_env,
        "num-cpus": 2, "num-gpus": 0, "object-store-memory": 80_000_000,
    }  # fmt: skip
    command = [str(Path(RAY_PYTHON).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PYTHONPATH": ""}
    env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray replaces the loopback address by the machine's own
    env["PATH"] = f"{Path(RAY_PYTHON).parent}{os.pathsep}{env['PATH']}"
    with (folder / "head.log").open("wb") as log:
        return subprocess.Popen(
            command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        ), dashboard


@pytest.fixture(scope="module", autouse=True)
def airflow_home(
    ray_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, str], subprocess.Popen[bytes]]]:
    """An Airflow home; its database is made while the other tests run."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    env = os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "PYTHONPATH": str(PLUGINS),
    }
    with (home / "migrate.log").open("wb") as log:
        migration = subprocess.Popen([*AIRFLOW, "db", "migrate"], env=env, stdout=log, stderr=subprocess.STDOUT)
    yield env, migration
    migration.wait(timeout=120)


def answers(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    """Return whether the head is complete: its API answers before its node has joined."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RAY_DEFAULT", connection(port))
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up_at and process.poll() is None:
            try:
                RayJobHook().find("none")
                if "Ray runtime started." in log.read_text(errors="replace"):
                    return True
            except RayJobsUnreachable:
                pass
            time.sleep(0.3)
    return False


@pytest.fixture(autouse=True)
def connected(ray_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", connection(ray_port))


def make(submission_id: str, entrypoint: list[str], **options: Any) -> RayJobOperator:
    options = {"deferrable": False, "poll_interval_s": 0.3, "tolerate_unreachable_s": 20} | options
    return RayJobOperator(task_id="t", submission_id=submission_id, entrypoint=entrypoint, **options)


def stop(submission_id: str, **options: Any) -> str:
    return RayJobStopOperator(
        task_id="s", submission_id=submission_id, poll_interval_s=0.3, tolerate_unreachable_s=20, **options
    ).execute({})["status"]


def wait_for(submission_id: str, status: str) -> None:
    give_up_at = time.monotonic() + 30
    while RayJobHook().status(submission_id).status != status:
        assert time.monotonic() < give_up_at
        time.sleep(0.2)


def test_the_preflight_tells_a_good_a_wrong_and_no_token(ray_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RayJobHook().check().is_token_enforced
    for password, said in (("wrong", "does not accept"), (None, "without a token")):
        monkeypatch.setenv("AIRFLOW_CONN_RAY_DEFAULT", connection(ray_port, password))
        with pytest.raises(RayAuthError, match=said):
            RayJobHook().check()
        with pytest.raises(RayAuthError):
            make("unauthorized", ["true"]).execute({})


def test_a_job_succeeds_and_is_not_run_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path / 'pwned'}); 'x' \" `id` ü"
    operator = make("good", PRINT_ARGUMENTS, arguments=[hostile])
    assert operator.execute({}) == {"submission_id": "good", "status": "SUCCEEDED"}
    assert f"got {[hostile]}" in capsys.readouterr().out
    assert not (tmp_path / "pwned").exists()
    started = time.monotonic()
    assert operator.execute({})["status"] == "SUCCEEDED"
    assert time.monotonic() - started < 1
    assert "already succeeded" in capsys.readouterr().out


def test_a_failure_shows_its_last_lines_and_a_retry_runs_again_and_shows_only_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The retry comes at once: without the pause Ray lets the first run's monitor kill the second run."""
    seen = []
    for _ in range(2):
        with pytest.raises(RayJobFailed, match="exit code 3") as caught:
            make("bad", ["sh", "-c", "echo moment $(date +%s%N); exit 3"]).execute({})
        seen.append([line for line in caught.value.log_tail if line.startswith("moment")])
        assert capsys.readouterr().out.count("] moment ") <= 1
    assert [len(lines) for lines in seen] == [1, 1]
    assert seen[0] != seen[1]


def test_a_second_try_reattaches_and_a_teardown_stops() -> None:
    server = make("server", SLEEPER, wait_for="submission")
    assert server.execute({})["status"] in ("PENDING", "RUNNING")
    wait_for("server", "RUNNING")
    started_ms = RayJobHook()._request("GET", "/api/jobs/server")["start_time"]
    assert server.execute({})["status"] == "RUNNING"
    assert RayJobHook()._request("GET", "/api/jobs/server")["start_time"] == started_ms
    assert stop("server") == "STOPPED"
    assert stop("server") == "STOPPED"
    assert stop("never-there") == "UNKNOWN"
    with pytest.raises(RayJobStopped):
        make("server", SLEEPER, wait_for="submission").execute_complete(
            {}, {"submission_id": "server", "outcome": "STOPPED"}
        )


def test_killing_a_deferred_task_stops_the_job() -> None:
    make("deferred", SLEEPER, wait_for="submission").execute({})
    wait_for("deferred", "RUNNING")
    trigger = RayJobTrigger("deferred", "ray_default", {"poll_interval_s": 0.2, "tolerate_unreachable_s": 20})

    async def kill_while_waiting() -> dict[str, Any]:
        events = trigger.run()
        waiting = asyncio.ensure_future(anext(aiter(events)))
        await asyncio.sleep(1)
        await trigger.on_kill()
        return dict((await asyncio.wait_for(waiting, 30)).payload)

    assert asyncio.run(kill_while_waiting())["outcome"] == "STOPPED"


def test_a_job_that_waits_for_resources_says_so_and_can_be_left() -> None:
    assert make("queued", ["true"], num_gpus=1, wait_for="submission").execute({})["status"] == "PENDING"
    time.sleep(1.5)
    assert "waiting for resources" in RayJobHook().status("queued").message
    assert stop("queued", stop_timeout_s=0.5) == "PENDING"


DAG_FILE = """
from airflow.sdk import DAG, task, task_group
from rayjob_provider.operators.ray_job import RayJobOperator, RayJobStopOperator

with DAG("mapped", schedule=None) as dag:
    @task
    def models():
        return [{"name": "a", "uri": "s3://a b;c", "cpus": 1}, {"name": "b/x", "uri": "$(false)", "cpus": 0.5}]

    @task_group
    def evaluate(name, uri, cpus):
        server_id = ["test", "{{ run_id }}", name]
        server = RayJobOperator(task_id="serve", entrypoint=["sleep", "100"], submission_id=server_id, wait_for="submission")
        suite = RayJobOperator(
            task_id="suite", entrypoint=PRINT, submission_id=[*server_id, "suite"], arguments=[name, uri, "{{ dag.dag_id }}"],
            num_cpus=cpus, poll_interval_s=0.3,
        )
        server >> suite >> RayJobStopOperator(task_id="stop", submission_id=server_id).as_teardown(setups=server)

    evaluate.expand_kwargs(models())
"""


def test_a_mapped_group_with_setup_and_teardown_runs_in_airflow(ray_port: int, airflow_home: Any) -> None:
    airflow_env, migration = airflow_home
    assert migration.wait(timeout=120) == 0
    folder = Path(airflow_env["AIRFLOW__CORE__DAGS_FOLDER"])
    (folder / "mapped.py").write_text(DAG_FILE.replace("PRINT", repr(PRINT_ARGUMENTS)))
    env = airflow_env | {"AIRFLOW_CONN_RAY_DEFAULT": connection(ray_port)}
    done = subprocess.run(
        [*AIRFLOW, "dags", "test", "mapped"], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed[-5000:]
    assert "got ['a', 's3://a b;c', 'mapped']" in printed
    assert "got ['b/x', '$(false)', 'mapped']" in printed
    assert printed.count("is STOPPED.") == 2
    assert TOKEN not in printed
