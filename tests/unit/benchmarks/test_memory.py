import os
import subprocess
import sys
import time

from benchmarks.memory import list_descendants, run_measured, sample_tree

MIB = 1 << 20
SHARED_BY_TWO = """
import mmap, os, time
shared = mmap.mmap(-1, 64 << 20)
shared.write(b"x" * (64 << 20))
if os.fork():
    os.wait()
else:
    time.sleep(0.8)
"""


def test_memory_shared_by_two_processes_is_counted_once(tmp_path):
    command = [sys.executable, "-c", SHARED_BY_TWO]
    run = run_measured(command, env=os.environ, stdout=tmp_path / "out", stderr=tmp_path / "err", interval_s=0.05)
    assert run.returncode == 0
    assert run.peak.processes == 2
    # The bytes that were written into it are in memory beside it for a moment.
    assert 64 * MIB <= run.peak.anon_shmem_bytes < 64 * MIB * 2 + 40 * MIB
    assert run.peak.pss_bytes >= run.peak.anon_shmem_bytes


def test_a_grandchild_belongs_to_the_tree_and_the_root_does_not(tmp_path):
    shell = subprocess.Popen(["bash", "-c", "sleep 30 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    try:
        grandchild = int(shell.stdout.readline())
        found = list_descendants(os.getpid())
        assert {shell.pid, grandchild} <= set(found)
        assert os.getpid() not in found
        totals, num_processes = sample_tree(shell.pid)
        assert num_processes == 1
        assert totals["pss"] > 0
    finally:
        os.kill(grandchild, 15)
        shell.wait()


def test_what_was_running_before_is_neither_counted_nor_ended(tmp_path):
    earlier = subprocess.Popen(["sleep", "30"])
    try:
        run = run_measured(
            ["sleep", "0.3"], env=os.environ, stdout=tmp_path / "out", stderr=tmp_path / "err", interval_s=0.05
        )
        assert run.peak.processes == 1
        assert run.orphans == []
        assert earlier.poll() is None
    finally:
        earlier.kill()
        earlier.wait()


def test_a_process_that_a_command_leaves_behind_does_not_count_as_its_time(tmp_path):
    started = time.monotonic()
    run = run_measured(["false"], env=os.environ, stdout=tmp_path / "out", stderr=tmp_path / "err")
    assert run.returncode == 1
    assert run.orphans == []
    assert run.wall_s <= time.monotonic() - started
