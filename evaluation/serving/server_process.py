"""A server as a process group of its own: its log is forwarded line by line, and nothing of it survives this process.

Ray stops a job with SIGTERM to the entrypoint and its children and, three seconds later, SIGKILL; a machine that runs out of
memory sends SIGKILL at once. So a watchdog waits for the end of a pipe that only this process holds, and kills the group
when this process is gone, however it went.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

STOP_GRACE_S = 1.5
TAIL_LINES = 40
_POLL_S = 0.05
# What a Python process with native bindings says when it ends; it would push the reason out of the last lines.
_NOISE = ("nanobind: ", " - leaked ", " - ... skipped", "See https://nanobind", "  warnings.warn('resource_tracker")
# TERM is ignored: Ray sends it to every descendant, and the watchdog is for what is left after that. `kill -9 -- -PID` would be
# an illegal number to dash, which is Debian's /bin/sh.
_WATCHDOG = "trap '' TERM INT HUP; read -r _; kill -s KILL -- -\"$0\" 2>/dev/null"


class ServerProcess:
    """A started server.

    Args:
        command: Words of its command line.
        environment: Its whole environment.
        secret: A text that is never forwarded from its log.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, secret: str) -> None:
        self._secret = secret
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._forwarder = threading.Thread(target=self._forward, args=(self._process.stdout,), daemon=True)
        self._forwarder.start()

    @property
    def pid(self) -> int:
        """Id of the server's first process and of its group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the first process, None while it runs."""
        return self._process.poll()

    @property
    def tail(self) -> list[str]:
        """The last lines of the log, without what a dying interpreter says about itself."""
        return list(self._tail)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """End the whole group: SIGTERM, SIGKILL for what is left after `grace_s`; then the watchdog."""
        self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and self._has_members():
            time.sleep(_POLL_S)
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._forwarder.join(timeout=1)
        if self._watchdog.stdin is not None:
            self._watchdog.stdin.close()  # it kills the empty group and ends
        self._watchdog.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _has_members(self) -> bool:
        self._process.poll()  # a zombie is still a member: reap it
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _forward(self, stream: IO[bytes]) -> None:
        for raw in stream:
            line = raw.decode("utf-8", "replace").rstrip().replace(self._secret, "***")
            if not line.startswith(_NOISE):
                self._tail.append(line)
            print(line, flush=True)
