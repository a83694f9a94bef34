"""What the laptop twin's commands do: run one night, or bring everything up, hold it, and end it."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from demo.twin.airflow_api import AirflowApi
from demo.twin.processes import PeakMemory
from demo.twin.services import AIRFLOW_USER, Twin, TwinAddress, read_address
from demo.twin.watch import describe_failure, follow_run
from voc.errors import ConfigError, PreflightError
from voc.models.folder import cache_folder
from voc.store.layout import RunLayout
from voc.store.uri import open_store

GIB = 2**30
UP_LINE = "the twin is up"


def run_night(arguments: argparse.Namespace) -> int:
    """Start the twin, run the DAG once, print the report's table, end the twin."""
    signal.signal(signal.SIGTERM, _raise_exit)
    start = time.monotonic()
    world = make_world(arguments.config)
    _refuse_second(arguments.home)
    shutil.rmtree(arguments.home / "airflow", ignore_errors=True)  # the next scheduler must not resume an old night
    twin = make_twin(arguments, world)
    try:
        address = twin.start()
        print(
            f"Airflow {address.airflow_url}, Ray {address.ray_url}: up after {time.monotonic() - start:.0f} s",
            flush=True,
        )
        with PeakMemory() as memory:
            succeeded = _run_dag(twin, address, arguments)
    except KeyboardInterrupt:
        print("interrupted: everything that was started is being ended", file=sys.stderr)
        return 130
    finally:
        twin.stop()
    print(
        f"wall time {time.monotonic() - start:.0f} s, peak memory {memory.peak_bytes / GIB:.2f} GiB (PSS, all processes)"
    )
    return 0 if succeeded else 1


def _run_dag(twin: Twin, address: TwinAddress, arguments: argparse.Namespace) -> bool:
    api = AirflowApi(address.airflow_url, twin.airflow_password)
    api.wait_for_dag(arguments.dag)
    run_id = api.trigger(arguments.dag, arguments.conf)
    print(f"{arguments.dag} {run_id}", flush=True)
    state = follow_run(api, arguments.dag, run_id)
    if state != "success":
        print(describe_failure(api, arguments.dag, run_id), file=sys.stderr)
        print(
            f"The run failed. All logs are below {twin.home}; `make up` shows this run in Airflow's UI.",
            file=sys.stderr,
        )
        return False
    print_result(api.xcom(arguments.dag, run_id, "preflight"))
    return True


def print_result(plan: dict[str, Any]) -> None:
    """Print a finished run's table (with its stages' wall times) and where its files are."""
    store, layout = open_store(plan["store_uri"]), RunLayout(plan["run_id"])
    print()
    print(store.read_bytes(f"{layout.report}/report.txt").decode())
    for label, key in (("HTML report", f"{layout.report}/index.html"), ("run folder", layout.root)):
        path = store.local_path(key)
        print(f"{label}: {path or f'{store.uri}/{key}'}")


def bring_up(arguments: argparse.Namespace) -> int:
    """Start the process that holds the twin, wait until it is up, say where it is."""
    world = make_world(arguments.config)
    _refuse_second(arguments.home)
    arguments.home.mkdir(parents=True, exist_ok=True)
    log = arguments.home / "hold.log"
    environ = {**os.environ, **({"NIGHTFORGE_WORLD": str(world)} if world else {})}
    command = [sys.executable, "-m", "demo.twin", "hold", "--config", str(arguments.config)]
    command += ["--home", str(arguments.home), "--num-cpus", str(arguments.num_cpus)]
    with log.open("wb") as output:
        holder = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    while UP_LINE not in log.read_text(errors="replace"):
        if holder.poll() is not None:
            raise PreflightError(f"the twin did not start:\n{log.read_text(errors='replace')}", remedy=f"read {log}")
        time.sleep(0.5)
    address = read_address(arguments.home)
    home = arguments.home.absolute()
    if address is not None:
        print(f"Airflow  {address.airflow_url}  user {AIRFLOW_USER}, password in {home}/airflow/passwords.json")
        print(f"Ray      {address.ray_url}  token in {home}/secrets.json (ray_token)")
    print("`make down` ends both.")
    return 0


def hold(arguments: argparse.Namespace) -> int:
    """Start the twin and keep it until SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, _raise_exit)
    twin = make_twin(arguments, make_world(arguments.config))
    try:
        twin.start()
        print(UP_LINE, flush=True)
        while True:
            signal.pause()
    finally:
        twin.stop()


def bring_down(arguments: argparse.Namespace) -> int:
    """End the twin that `up` left running."""
    address = read_address(arguments.home)
    if address is None:
        print("nothing is up")
        return 0
    os.kill(address.pid, signal.SIGTERM)
    while Path(f"/proc/{address.pid}").exists():
        time.sleep(0.2)
    print("everything is down")
    return 0


def make_twin(arguments: argparse.Namespace, world: Path | None) -> Twin:
    """Return the twin for the command line's settings.

    Raises:
        ConfigError: If the Airflow environment's interpreter is not named.
    """
    airflow_python = os.environ.get("NIGHTFORGE_AIRFLOW_PYTHON")
    if not airflow_python or not Path(airflow_python).is_file():
        raise ConfigError(
            f"NIGHTFORGE_AIRFLOW_PYTHON is {airflow_python!r}",
            expected="the interpreter of the Airflow environment",
            remedy="start through make, or take it from `make env`",
        )
    if not arguments.config.is_file():
        raise ConfigError(
            f"there is no configuration {arguments.config}", remedy="name a file of configs/ (CONFIG=...)"
        )
    return Twin(arguments.home, arguments.config, Path(airflow_python), world, num_cpus=arguments.num_cpus)


def make_world(config: Path) -> Path | None:
    """Make (or find in the cache) the demo's data and base model if the configuration uses them."""
    if "NIGHTFORGE_WORLD" in os.environ:
        return Path(os.environ["NIGHTFORGE_WORLD"]).absolute()
    if not config.is_file() or "${NIGHTFORGE_WORLD}" not in config.read_text():
        return None
    world = cache_folder() / "demo-world"
    command = [sys.executable, "-m", "demo", "make", "--output", str(world)]
    if subprocess.run(command, check=False).returncode:
        raise PreflightError(f"`python -m demo make --output {world}` failed", remedy="its messages are above")
    return world


def _refuse_second(home: Path) -> None:
    address = read_address(home)
    if address is not None and address.pid != os.getpid():
        raise ConfigError(
            f"a twin is running in {home.absolute()} (process {address.pid})", remedy="end it with `make down`"
        )


def _raise_exit(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)
