from __future__ import annotations

from collections.abc import Callable

import pytest

from training.__main__ import main
from voc.run import Run


def list_arguments(run: Run, stage: str, *more: str) -> list[str]:
    return [stage, "--store-uri", run.store.uri, "--run-id", run.layout.run_id, *more]


def test_the_stages_run_from_the_command_line(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    assert main(list_arguments(run, "prepare")) == 0
    assert main(list_arguments(run, "run", "--arm", "customer", "--without-ray")) == 0
    assert {"prepare.json", "train-customer.json"} == {
        k.split("/")[-1] for k in run.store.list_keys(run.layout.timings)
    }
    monkeypatch.setattr("training.loop.train.train", lambda *_: pytest.fail("it was trained again"))
    capsys.readouterr()
    assert main(list_arguments(run, "run", "--arm", "customer", "--without-ray")) == 0
    assert "trained already" in capsys.readouterr().out
    assert main(list_arguments(run, "show", "--arm", "customer", "--row", "1")) == 0
    assert "⟦" in capsys.readouterr().out


def test_a_named_error_is_one_message_and_exit_code_2(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list_arguments(make_run(), "run", "--arm", "customer")) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("TrainingError: the data of tiny is not prepared")
    assert "Traceback" not in captured
