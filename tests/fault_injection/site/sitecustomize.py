"""Kills processes of a training at planned moments; Python runs this file at its start where PYTHONPATH names its folder.

Nothing of the product knows about it. `NIGHTFORGE_TEST_FAULTS` names a folder with `plan.json`, a list of faults that fire
one after the other, each once, whichever process meets its moment first. A process can fire one fault only, which is the next
one when its training began: where two ranks meet the moments of two faults together, the second waits for the next try.

    {"name": "...", "rank": 1, "step": 7}              when that rank reads the samples of that step (from 0)
    {"name": "...", "rank": 0, "path": "/export/.*"}   when that rank puts a file into place whose path matches
    "target": "self" | "raylet" | "driver", "signal": 9; "delay_s" into a step where the target is "self"

Beside the plan it writes `fired-<number>.json` *before* the signal is sent, and `steps-<rank>.jsonl`, every step that was
begun, by which process. The file system's moments come from Python's audit events: a file of the store is renamed into place.
"""

import importlib.abc
import importlib.machinery
import json
import os
import re
import sys
import threading
import time
from pathlib import Path

_armed: list[int] = []  # number of the fault that this process may fire
_STALL_S = 60.0  # longer than it takes until the processes of a dead raylet or driver are gone


def _arm(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    sys.meta_path.insert(0, _StepHook(folder, plan))

    def see(event: str, arguments: tuple) -> None:
        if event == "os.rename":
            _fire_if_due(folder, plan, path=os.fsdecode(arguments[1]))

    sys.addaudithook(see)


class _StepHook(importlib.abc.MetaPathFinder):
    """Lets `SampleReader.read_step` tell which step begins, as soon as its module is imported."""

    def __init__(self, folder: Path, plan: list) -> None:
        self._folder, self._plan = folder, plan

    def find_spec(self, name, path=None, target=None):
        if name != "corpus.mixing.samples":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_wrap(module) -> None:
            execute(module)
            # Now and not at the start of the process: Ray starts processes before it has work for them.
            _armed[:] = [n for n in range(len(self._plan)) if not _get_record(self._folder, n).exists()][:1]
            _wrap_read_step(module.SampleReader, self._folder, self._plan)

        spec.loader.exec_module = execute_and_wrap
        return spec


def _wrap_read_step(reader: type, folder: Path, plan: list) -> None:
    read_step = reader.read_step

    def read_step_and_tell(self, step: int):
        rank = _get_rank()
        line = json.dumps({"step": step, "pid": os.getpid(), "at": time.time()}) + "\n"
        _append(folder / f"steps-{rank}.jsonl", line)
        _fire_if_due(folder, plan, step=step)
        return read_step(self, step)

    reader.read_step = read_step_and_tell


def _fire_if_due(folder: Path, plan: list, *, step: int | None = None, path: str | None = None) -> None:
    if not _armed or _get_record(folder, _armed[0]).exists():
        return
    number = _armed[0]
    fault = plan[number]
    if fault.get("step") != step or (path is not None and not re.search(fault.get("path", "(?!)"), path)):
        return
    if _get_rank() != fault["rank"]:
        return
    if fault.get("delay_s") and fault["target"] == "self":
        threading.Timer(fault["delay_s"], _fire, (folder, number, fault, f"step {step}")).start()
    else:
        _fire(folder, number, fault, f"step {step}" if path is None else path)


def _fire(folder: Path, number: int, fault: dict, moment: str) -> None:
    pid = _find_target(folder, fault["target"])
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    record = {**fault, "moment": moment, "pid": pid, "command": command, "at": time.time(), "by": os.getpid()}
    try:
        _append(_get_record(folder, number), json.dumps(record), os.O_EXCL)
    except FileExistsError:
        return  # it was fired by another process meanwhile
    os.kill(pid, fault["signal"])
    if fault["target"] != "self":
        time.sleep(_STALL_S)  # in the middle of what it does, as if everything had stopped at once


def _find_target(folder: Path, target: str) -> int:
    if target == "self":
        return os.getpid()
    if target == "driver":
        return int((folder / "driver.pid").read_text())
    parent = os.getppid()
    name = Path(f"/proc/{parent}/comm").read_text().strip()
    if target != "raylet" or name != "raylet":
        raise RuntimeError(f"the target {target} was not found: this process is a child of {name}")
    return parent


def _get_rank() -> int:
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    return distributed.get_rank() if distributed is not None and distributed.is_initialized() else -1


def _get_record(folder: Path, number: int) -> Path:
    return folder / f"fired-{number}.json"


def _append(path: Path, text: str, flags: int = os.O_APPEND) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    try:
        os.write(file, text.encode())
        os.fsync(file)
    finally:
        os.close(file)


if "NIGHTFORGE_TEST_FAULTS" in os.environ:
    _arm(Path(os.environ["NIGHTFORGE_TEST_FAULTS"]))
