import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from evaluation.serving.server_process import ServerProcess

# A server with a child that ignores SIGTERM, as a busy engine does.
STUBBORN = """
import os, signal, sys, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"child ready\\n")  # in one piece: both write
time.sleep(60)
"""
HOLDER = """
import os, sys, time
from evaluation.serving.server_process import ServerProcess
server = ServerProcess([sys.executable, "-S", "-c", sys.argv[1]], dict(os.environ), secret="s")
print("pid", server.pid, flush=True)
time.sleep(60)
"""


def start(code, *, secret="-"):  # noqa: S107
    # -S: what the machine's site packages print at the start of an interpreter is not the server's log
    return ServerProcess([sys.executable, "-S", "-u", "-c", code], dict(os.environ), secret=secret)


def has_group(pid):
    with suppress(ProcessLookupError):
        os.killpg(pid, 0)
        return any(
            stat.read_text().rpartition(")")[2].split()[2] == str(pid) and ") Z " not in stat.read_text()
            for stat in Path("/proc").glob("[0-9]*/stat")
            if stat.exists()
        )
    return False


def wait_until(condition, timeout_s=15):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_the_log_is_forwarded_without_the_secret_and_its_end_is_kept(capfd):
    server = start("print('key is hunter2'); print('bye')", secret="hunter2")
    assert wait_until(lambda: server.exit_code == 0)
    server.stop()
    assert server.tail == ["key is ***", "bye"]
    assert "key is ***" in capfd.readouterr().out


def test_the_reason_is_not_pushed_out_of_the_last_lines_by_a_dying_interpreter(capfd):
    noise = "nanobind: leaked 64 types!\\n" + " - leaked type x\\n" * 60
    server = start(f"print('RuntimeError: no such kernel'); print('{noise}')", secret="hunter2")
    assert wait_until(lambda: server.exit_code == 0)
    server.stop()
    assert "RuntimeError: no such kernel" in server.tail
    assert "leaked type x" in capfd.readouterr().out  # the whole log has it


def test_stop_ends_children_that_ignore_sigterm():
    server = start(STUBBORN)
    assert wait_until(lambda: server.tail.count("child ready") == 2)
    server.stop(grace_s=0.3)
    assert wait_until(lambda: not has_group(server.pid))


def test_stop_of_a_dead_server_is_fine():
    server = start("raise SystemExit(3)")
    assert wait_until(lambda: server.exit_code == 3)
    server.stop()


def test_nothing_survives_a_holder_that_is_killed():
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, STUBBORN], stdout=subprocess.PIPE, text=True)
    first = [next(holder.stdout) for _ in range(3)]
    # Both processes are past their only line: neither can end by itself for want of a reader.
    assert first.count("child ready\n") == 2
    pid = next(int(line.split()[1]) for line in first if line.startswith("pid "))
    assert has_group(pid)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert wait_until(lambda: not has_group(pid))
