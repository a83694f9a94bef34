"""Every descendant is found and ended, also one that left its session and lost its parent."""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.conftest import REPOSITORY

HOLDER = """
import sys, time
from pathlib import Path
from demo.twin.processes import adopt_orphans, end_descendants, find_descendants, measure_pss_bytes, start_process

adopt_orphans()
script = "setsid sleep 1000 & (trap '' TERM; setsid sh -c \\"trap '' TERM; sleep 1000\\" &) ; exit 0"
start_process("child", ["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, Path(sys.argv[1])).wait()
time.sleep(0.5)
found = find_descendants()
print(len(found), measure_pss_bytes() > 0)
print(end_descendants(wait_s=1.0))
print(len(find_descendants()))
"""


def test_orphans_in_sessions_of_their_own_are_found_measured_and_ended(tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, killed, left = done.stdout.splitlines()
    count, measured = first.split()
    assert int(count) >= 2
    assert measured == "True"
    assert int(killed) >= 1  # the one that ignores SIGTERM
    assert left == "0"
