"""The provider against a real Ray head with token authentication, and in a real Airflow DAG run.

Needs RAY_PYTHON, the interpreter of the Ray environment; runs itself in Airflow's. The head has its own folder and ports,
listens on loopback, and is ended by the ids of its own processes.
"""

from __future__ import annotations

import asyncio
import json
import os
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

from rayjob_provider.exceptions import RayAuthError, RayJobFailed, RayJobStopped, RayJobsUnreachable  # noqa: E402
from rayjob_provider.hooks.ray_job import RayJobHook  # noqa: E402
from rayjob_provider.operators.ray_job import RayJobOperator, RayJobStopOperator  # noqa: E402
from rayjob_provider.triggers.ray_job import RayJobTrigger  # noqa: E402
from tests.ray_head import RayHead, start_ray_head  # noqa: E402

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]
TOKEN = "integration-token-of-this-test"
AIRFLOW = [sys.executable, "-m", "airflow"]
PLUGINS = Path(__file__).parents[2] / "plugins"
SLEEPER = ["python", "-c", "import time; print('awake', flush=True); time.sleep(120)"]
PRINT_ARGUMENTS = ["python", "-c", "import json, os; print('got', json.loads(os.environ['RAYJOB_ARGUMENTS']))"]


def connection(port: int, password: str | None = TOKEN) -> str:
    return json.dumps({"conn_type": "ray", "host": "127.0.0.1", "port": port, "password": password})


@pytest.fixture(scope="module")
def ray_port() -> Iterator[int]:
    ray_python = Path(RAY_PYTHON)
    with start_ray_head(num_cpus=2, token=TOKEN, on_loopback=True, ray_python=ray_python, answers=has_jobs_api) as head:
        yield head.dashboard_port


def has_jobs_api(head: RayHead) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_RAY_DEFAULT", connection(head.dashboard_port))
        try:
            RayJobHook().find("none")
        except RayJobsUnreachable:
            return False
    return True


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
