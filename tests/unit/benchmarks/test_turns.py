import os
import subprocess
import sys
import time
from itertools import pairwise

import psutil
import pytest

from benchmarks.turns import ProcessTree, Turn, compare_paired, list_active_s, take_turns

# A command whose child counts into a file: what a stopped tree must not do.
COUNTING = """
import subprocess, sys, time
if len(sys.argv) == 2:
    subprocess.run([sys.executable, __file__, sys.argv[1], "child"])
while True:
    with open(sys.argv[1], "a") as file:
        file.write("x")
    time.sleep(0.01)
"""


@pytest.fixture
def start(tmp_path):
    script, trees = tmp_path / "counting.py", []
    script.write_text(COUNTING)

    def start_one(name):
        path = tmp_path / name
        tree = ProcessTree(subprocess.Popen([sys.executable, str(script), str(path)]).pid)
        trees.append(tree)
        while not path.exists():
            time.sleep(0.01)
        return tree, path

    yield start_one
    for tree in trees:
        tree.kill()


def test_a_stopped_tree_stands_still_with_its_children_and_goes_on(start):
    tree, path = start("count")
    assert len(tree.list_processes()) == 2
    tree.stop()
    assert {process.status() for process in tree.list_processes()} == {psutil.STATUS_STOPPED}
    size = path.stat().st_size
    time.sleep(0.2)
    assert path.stat().st_size == size
    tree.let_go()
    while path.stat().st_size == size:
        time.sleep(0.01)


def test_sides_run_one_at_a_time(start):
    (first, first_path), (second, second_path) = start("first"), start("second")
    first.stop()
    second.stop()
    sizes = [(first_path.stat().st_size, second_path.stat().st_size)]
    turns = []
    for turn in take_turns({"first": first, "second": second}, 0.3, lambda: len(turns) >= 4):
        turns.append(turn)
        sizes.append((first_path.stat().st_size, second_path.stat().st_size))
    assert [turn.side for turn in turns] == ["first", "second", "first", "second"]
    for turn, (before, after) in zip(turns, pairwise(sizes), strict=True):
        running = ("first", "second").index(turn.side)
        assert after[running] > before[running]
        assert after[1 - running] == before[1 - running]
    assert all(before.end < after.start for before, after in pairwise(turns))


def test_a_command_that_has_ended_has_no_processes():
    process = subprocess.Popen([sys.executable, "-c", ""])
    tree = ProcessTree(process.pid)
    process.wait()
    assert tree.list_processes() == []
    tree.stop()
    tree.let_go()
    assert tree.measure_cpu_s() == 0.0


def test_cpu_time_is_that_of_the_whole_tree():
    tree = ProcessTree(os.getpid())
    before_s = tree.measure_cpu_s()
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    assert tree.measure_cpu_s() > before_s + 0.05


def test_time_between_two_ends_counts_in_own_turns_only():
    turns = [Turn("a", 0.0, 4.0), Turn("a", 8.0, 12.0)]
    assert list_active_s([1.0, 3.0, 9.0, 11.5, 20.0], turns) == [2.0, 2.0, 2.5, 0.5]


def test_paired_ratios_are_averaged_as_logarithms():
    mean, low, high = compare_paired([2.0, 1.0, 1.0], [1.0, 2.0, 1.0])
    assert mean == pytest.approx(1.0)
    assert low == pytest.approx(1 / high)
    assert high == pytest.approx(5.594, abs=0.001)  # exp(4.3027 * ln 2 / sqrt(3)), t of 2 degrees of freedom
    with pytest.raises(ValueError, match="two pairs"):
        compare_paired([1.0], [1.0])
