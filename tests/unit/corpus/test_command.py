"""`python -m voc mix` and `show`, as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_run import make_voc_row, write_lines
from voc.__main__ import make_parser
from voc.arguments import run_command
from voc.run import Run

MakeRun = Callable[..., Run]


@pytest.fixture
def config_path(make_run: MakeRun, tmp_path: Path) -> Path:
    run = make_run()
    run.store.delete_prefix(run.layout.root)
    path = tmp_path / "night.yaml"
    path.write_text(json.dumps(run.config.model_dump(mode="json")))
    return path


def command(config_path: Path, *words: str) -> int:
    name, *more = words
    return run_command(make_parser(), [name, "--config", str(config_path), "--without-ray", *more])


def list_store(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "run" / "store").rglob("*") if path.is_file()]


def test_mix_prints_the_table_writes_its_files_and_leaves_the_store_alone(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mix"
    assert command(config_path, "mix", "--output", str(output)) == 0
    printed = capsys.readouterr().out
    assert "arm mixed: 32 samples" in printed
    assert "75.00%" in printed
    names = ["data_card.html", "data_report.json", "dropped.jsonl", "overlaps.jsonl", "quarantine.jsonl"]
    assert sorted(path.name for path in output.iterdir()) == names
    report = json.loads((output / "data_report.json").read_text())
    assert [source["num_samples"] for source in report["arms"]["mixed"]["sources"]] == [24, 8]
    assert "<html" in (output / "data_card.html").read_text()
    assert list_store(tmp_path) == []


def test_mix_leaves_the_refused_rows_also_where_there_are_too_many(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [make_voc_row(number) for number in range(10)]
    rows[3]["comment"] = ""
    write_lines(tmp_path / "run" / "train.jsonl", rows)
    output = tmp_path / "mix"
    output.mkdir()
    (output / "data_card.html").write_text("of an earlier call")
    assert command(config_path, "mix", "--output", str(output)) == 2
    assert "1 of 10 rows are refused (empty_comment 1)" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["quarantine.jsonl"]
    (refused,) = [json.loads(line) for line in (output / "quarantine.jsonl").read_text().splitlines()]
    assert (refused["line"], refused["reason"]) == (4, "empty_comment")


def test_show_prints_a_sample_with_its_learned_parts_marked(
    config_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(config_path, "show", "--row", "3") == 0
    printed = capsys.readouterr().out
    assert "sample 3 of customer (step 1): row " in printed
    answer = printed[printed.index("⟦") + 1 : printed.index("⟧")]
    assert answer.endswith("<|im_end|>")
    segments = json.loads(answer.removesuffix("<|im_end|>"))
    assert segments[0]["L1"] == "laptop"
    assert segments[0]["content"] in printed[: printed.index("⟦")]
    assert list_store(tmp_path) == []


@pytest.mark.parametrize("row", ["32", "-1"])
def test_a_row_outside_of_the_arm_is_a_named_error(
    config_path: Path, capsys: pytest.CaptureFixture[str], row: str
) -> None:
    assert command(config_path, "show", f"--row={row}") == 2
    assert f"ConfigError: --row {row} is outside of the arm's 32 samples" in capsys.readouterr().err


def test_an_unknown_arm_is_a_named_error(config_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(config_path, "show", "--arm", "nobody") == 2
    message = capsys.readouterr().err
    assert "there is no arm 'nobody'" in message
    assert "customer, mixed" in message
