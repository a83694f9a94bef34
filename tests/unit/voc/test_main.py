"""The command line as a person meets it: one message, exit code 2, nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.s3_servers import S3Server, free_port
from tests.unit.voc.conftest import Night, voc_row
from voc.__main__ import make_parser
from voc.arguments import parse_overrides, run_command
from voc.errors import ConfigError
from voc.store.manifest import verify_directory
from voc.store.uri import open_store


def command(*words: str) -> int:
    return run_command(make_parser(), [*words])


def preflight(night: Night, *more: str) -> int:
    return command("preflight", "--config", str(night.config_path), "--run-id", "r1", *more)


def _edit(key: str, value: object) -> Callable[[Night], None]:
    def spoil(night: Night) -> None:
        *parents, last = key.split(".")
        place = night.tree
        for parent in parents:
            place = place[parent]
        place[last] = value

    return spoil


BAD_INPUT: dict[str, tuple[Callable[[Night], object], list[str]]] = {
    "unknown key": (_edit("training.max_stepz", 3), ["ConfigError", "training.max_stepz", "did you mean 'max_steps'?"]),
    "wrong type": (_edit("training.max_steps", "ten"), ["ConfigError", "training.max_steps", "(seen: 'ten')"]),
    "missing file": (lambda n: n.path("test.jsonl").unlink(), ["PreflightError", "data.test", "does not exist"]),
    "empty dataset": (lambda n: n.path("customer.jsonl").write_text("\n"), ["data.sources.customer", "is empty"]),
    "malformed line": (
        lambda n: n.path("test.jsonl").write_text('{"id": "a", "comment"\n'),
        ["data.test", "malformed_json 1", "line 1", "at most 1.00% refused", "correct the rows"],
    ),
    "unknown label": (
        lambda n: n.write_jsonl("test.jsonl", [voc_row("a", L4="Runtimes")]),
        ["data.test", "L4 'Runtimes' is not in the taxonomy under Product > Battery > Use", "'Runtime'"],
    ),
    "duplicate id": (
        lambda n: n.write_jsonl("test.jsonl", [voc_row("a"), voc_row("a")]),
        ["data.test", "duplicate_id 1", "the id 'a' was used by an earlier row"],
    ),
    "unreachable store": (_edit("store.uri", "/dev/null/store"), ["store.uri", "cannot write", "check store.uri"]),
    "unknown store": (_edit("store.uri", "ftp://host/x"), ["store.uri", "'ftp'", "s3://bucket/prefix"]),
    "unknown model": (
        _edit("model.base", "Qwen/Qwen9"),
        ["model.base", "Qwen/Qwen9", "no such folder", "check model.base"],
    ),
    "unset variable": (_edit("store.uri", "${NO_SUCH_VARIABLE_HERE}"), ["ConfigError", "NO_SUCH_VARIABLE_HERE"]),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_message_exit_2_and_no_artefact(
    night: Night, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, parts = BAD_INPUT[case]
    spoil(night)
    assert preflight(night) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [part for part in parts if part not in captured.err] == []
    assert "Traceback" not in captured.err
    assert "To do: " in captured.err
    assert [p for p in night.store_folder.rglob("*") if p.is_file()] == []


def test_an_s3_store_that_nobody_serves_is_a_finding(
    night: Night, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("voc.store.s3.MAX_ATTEMPTS", 1)
    for name, value in S3Server(f"http://127.0.0.1:{free_port()}", "key", "secret").environment.items():
        monkeypatch.setenv(name, value)
    assert preflight(night, "--set", "store.uri=s3://bucket/prefix") == 2
    assert "check store.uri, AWS_ENDPOINT_URL" in capsys.readouterr().err


def test_a_real_process_exits_with_2_and_no_traceback(night: Night, repository: Path) -> None:
    night.path("test.jsonl").unlink()
    words = ["preflight", "--config", str(night.config_path), "--run-id", "r1"]
    done = subprocess.run(
        [sys.executable, "-m", "voc", *words],
        cwd=night.folder, env={**os.environ, "PYTHONPATH": str(repository)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("PreflightError: 1 of 11 checks failed:")


def test_a_good_preflight_lists_what_it_read(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight(night, "--set", "training.max_steps=5", "--set", "decision.confidence=0.9") == 0
    out = capsys.readouterr().out
    assert out.count("ok  ") == 11
    assert "arms.mix: 20 samples" in out
    assert "run r1 in file://" in out
    assert list(open_store(str(night.store_folder)).list_keys()) == ["runs/r1/config.json"]


def test_an_existing_run_with_another_configuration_is_refused(
    night: Night, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight(night) == 0
    assert preflight(night) == 0
    assert preflight(night, "--set", "seed=5") == 2
    assert "with another configuration" in capsys.readouterr().err


def test_overrides_keep_their_types() -> None:
    settings = ["a.b=3", "c=true", "d=text", "e=null", "f=[1, 2]", "g=a=b", "h="]
    assert parse_overrides(settings) == {
        "a.b": 3, "c": True, "d": "text", "e": None, "f": [1, 2], "g": "a=b", "h": None,
    }  # fmt: skip


@pytest.mark.parametrize("setting", ["training.max_steps", "=3", "a=[1"])
def test_an_override_that_sets_nothing_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_overrides([setting])


def test_check_config_says_that_a_file_is_right(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check-config", "--config", str(night.config_path)) == 0
    assert "is right: tiny, arms mix, hash " in capsys.readouterr().out
    assert command("check-config", "--config", str(night.config_path), "--set", "seed=-1") == 2
    assert "seed" in capsys.readouterr().err


def test_describe_config_prints_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("describe-config") == 0
    assert capsys.readouterr().out.startswith("# Configuration\n")


def test_put_model_then_use_it_as_base(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    uri = night.store_folder.as_uri()
    words = ["put-model", "--input", str(night.path("base")), "--store-uri", uri, "--name", "tiny"]
    assert command(*words) == 0
    assert "models/tiny: 5 files" in capsys.readouterr().out
    verify_directory(open_store(uri), "models/tiny")
    assert preflight(night, "--set", f"model.base={uri}/models/tiny") == 0


def test_put_model_of_nothing_is_refused(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["put-model", "--input", str(night.path("none")), "--store-uri", str(night.store_folder), "--name", "x"]
    assert command(*words) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not night.store_folder.exists()


def test_import_acos_prints_counts_that_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("fine\t-1,-1 CPU#PRICE 1 -1,-1\nbroken\n")
    assert command("import", "acos", "--input", str(tmp_path), "--output", str(tmp_path / "out")) == 0
    out = capsys.readouterr().out
    assert out.count("2 lines = 1 records + 1 quarantined") == 3
    verify_directory(open_store(str(tmp_path)), "out")


def test_import_acos_of_a_missing_folder_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("import", "acos", "--input", str(tmp_path / "none"), "--output", str(tmp_path / "out")) == 2
    assert "train.tsv" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
