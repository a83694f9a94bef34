from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import training.loop.train
from tests.unit.training.two_ranks import run_on_two_ranks
from training.__main__ import main
from training.engine.process_group import Ranks
from training.job import TrainingJob, is_trained, open_job
from training.loop.preemption import EXIT_CODE, Notice
from training.loop.train import train
from training.metrics import StepFigures
from voc.errors import PreemptedError
from voc.run import open_run

MakeJob = Callable[..., TrainingJob]
ROOT = Path(__file__).resolve().parents[4]


def run_step_and_get_sigterm(step: int, rank: int) -> Callable[..., StepFigures]:
    run_step = training.loop.train.run_step

    def run(job: TrainingJob, ranks: Ranks, *rest: Any, **named: Any) -> StepFigures:
        if named["step"] == step and ranks.rank == rank:
            os.kill(os.getpid(), signal.SIGTERM)
        return run_step(job, ranks, *rest, **named)

    return run


def read_weights(job: TrainingJob) -> bytes:
    return job.run.store.read_bytes(f"{job.run.layout.export('mixed')}/model.safetensors")


def test_sigterm_saves_the_step_under_way_and_the_same_command_goes_on_from_it(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = make_job("whole"), make_job("broken")
    train(whole)
    command = ["run", "--store-uri", broken.run.store.uri, "--run-id", "tiny", "--arm", "mixed", "--without-ray"]
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr("training.loop.train.run_step", run_step_and_get_sigterm(step=2, rank=0))
        assert main(command) == EXIT_CODE == 75
    assert "PreemptedError: arm 'mixed' stopped after step 3: SIGTERM" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before
    assert not is_trained(broken)
    assert main(command) == 0
    assert "continues from the checkpoint of step 3" in capsys.readouterr().out
    assert read_weights(broken) == read_weights(whole)


def be_preempted(store_uri: str) -> None:
    """Rank 1 alone gets SIGTERM; both ranks must end by the same error."""
    training.loop.train.run_step = run_step_and_get_sigterm(step=2, rank=1)
    with pytest.raises(PreemptedError, match="stopped after step 3"):
        train(open_job(open_run(store_uri, "tiny"), "mixed"))


def test_all_ranks_stop_at_one_step_when_one_of_them_gets_sigterm(
    make_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    run_on_two_ranks(be_preempted, job.run.store.uri)
    train(job)
    assert "continues from the checkpoint of step 3" in capsys.readouterr().out
    assert is_trained(job)


STUCK = """
import time
from training.loop.preemption import NOTICE
with NOTICE.watch(0.5):
    print("ready", flush=True)
    while True:
        time.sleep(0.1)
"""


def test_a_process_that_cannot_save_in_time_ends_within_the_grace_with_the_same_code() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == EXIT_CODE
        assert 0.4 < time.monotonic() - start < 10
        assert "within 0.5 s (training.checkpoint.preemption_grace_s)" in process.stderr.read()


def test_outside_the_steps_sigterm_does_what_it_did_before() -> None:
    notice, seen = Notice(), []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("before"))
    try:
        notice.handle_sigterm()
        signal.raise_signal(signal.SIGTERM)
        assert (seen, notice.reason) == (["before"], None)
        with notice.watch(100):
            signal.raise_signal(signal.SIGTERM)
            assert (seen, notice.reason) == (["before"], "SIGTERM")
        signal.raise_signal(signal.SIGTERM)
        assert (seen, notice.reason) == (["before", "before"], None)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_question_may_be_the_notice() -> None:
    notice = Notice()
    notice.ask(lambda: "the node is drained")
    with notice.watch(100):
        assert notice.reason == "the node is drained"
