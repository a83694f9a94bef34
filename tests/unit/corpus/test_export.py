from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpus import export
from corpus.sources.formats import read_split
from corpus.sources.rows import InputSplit
from tests.tiny_run import make_general_rows, make_voc_row, write_lines
from tests.unit.corpus.sources.read_source import make_source, read_values
from voc.__main__ import make_parser
from voc.arguments import run_command
from voc.config.data_mixing import parse_data_mixing
from voc.errors import IntegrityError
from voc.run import Run

MakeRun = Callable[..., Run]
USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


def chat(category: str, number: int) -> dict[str, Any]:
    return {"messages": [{**USER, "content": f"question {number}"}, ANSWER], "category": category}


def run_export(run: Run, tmp_path: Path, *words: str) -> tuple[int, Path]:
    """Export a run's configuration by the command line and return the exit code and the folder."""
    path, output = tmp_path / "night.yaml", tmp_path / "exported"
    path.write_text(json.dumps(run.config.model_dump(mode="json")))
    parser = make_parser()
    code = run_command(parser, ["export", "--config", str(path), "--output", str(output), "--without-ray", *words])
    return code, output


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def arm_of(categories: dict[str, float] | None = None, **more: Any) -> list[dict[str, Any]]:
    sources = [
        {"name": "customer", "weight": 75},
        {"name": "general", "weight": 25, "categories": categories or {}},
    ]
    return [{"name": "mixed", "title": "75/25", "sources": sources, **more}]


def prepare_rows(tmp_path: Path, general: list[dict[str, Any]], customer: list[dict[str, Any]] | None = None) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    write_lines(folder / "general.jsonl", general)
    if customer is not None:
        write_lines(folder / "train.jsonl", customer)


def test_the_rows_and_shares_of_an_arm_are_written(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_rows(tmp_path, [chat("math" if n % 4 else "code", n) for n in range(12)])
    code, output = run_export(make_run(arms=arm_of({"math": 3, "code": 1})), tmp_path)
    assert code == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "customer.jsonl", "data_mixing.json", "general.jsonl", "not_exported.jsonl",
    ]  # fmt: skip
    rows = read_values(make_source(output / "customer.jsonl", reader="converse"))
    assert [row["comment"] for row in rows] == [make_voc_row(n, n % 7)["comment"] for n in range(40)]
    assert rows[3]["segments"] == make_voc_row(3, 3)["segments"]
    general = read_values(make_source(output / "general.jsonl", reader="converse", format="general"))
    assert [row["messages"][0]["content"] for row in general] == [f"question {n}" for n in range(12)]
    assert (output / "not_exported.jsonl").read_bytes() == b""
    block = json.loads((output / "data_mixing.json").read_text())["data_mixing"]
    assert parse_data_mixing(block) == (75.0, {"math": 75.0, "code": 25.0})
    assert block["dataset_catalog"] == "sft_1p5_text_chat"
    assert "customer.jsonl: 40 rows, read back" in capsys.readouterr().out


def test_rows_without_a_converse_form_are_listed_and_counted_by_reason(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = {"messages": [USER, USER, ANSWER], "category": "chat"}
    blank = {"messages": [{**USER, "content": " "}, ANSWER], "category": "chat"}
    plain = {"prompt": "one", "completion": " two", "category": "chat"}
    prepare_rows(tmp_path, [chat("chat", 0), twice, plain, chat("chat", 1), blank])
    code, output = run_export(make_run(arms=arm_of()), tmp_path)
    assert code == 0
    assert len(read_lines(output / "general.jsonl")) == 2
    entries = read_lines(output / "not_exported.jsonl")
    assert [(entry["source"], entry["row"], entry["reason"]) for entry in entries] == [
        ("general", 1, "turns_not_alternating"), ("general", 2, "plain_text"), ("general", 4, "blank_turn"),
    ]  # fmt: skip
    assert "user, user, assistant" in entries[0]["detail"]
    counts = "blank_turn 1, plain_text 1, turns_not_alternating 1"
    assert f"general.jsonl: 2 rows, read back; without a Converse form: {counts}" in capsys.readouterr().out


def test_rows_that_are_not_trained_on_are_not_written(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [make_voc_row(n) for n in range(8)]
    doubled = [*rows, {**rows[2], "id": "again"}]
    prepare_rows(tmp_path, [chat("math", n) for n in range(4)] + [chat("poetry", 9)], doubled)
    run = make_run(arms=arm_of({"math": 1}))
    config = run.config.model_copy(
        update={"data": run.config.data.model_copy(
            update={"duplicates": run.config.data.duplicates.model_copy(update={"exact": "drop"})}
        )}
    )  # fmt: skip
    code, output = run_export(Run(run.store, run.layout, config), tmp_path)
    assert code == 0
    comments = [row["comment"] for row in read_values(make_source(output / "customer.jsonl", reader="converse"))]
    assert comments == [row["comment"] for row in rows]
    assert len(read_lines(output / "general.jsonl")) == 4  # the arm draws no poetry


@pytest.mark.parametrize("unit", ["samples", "tokens", "assistant_tokens"])
def test_without_categories_the_drawn_rows_say_them(make_run: MakeRun, tmp_path: Path, unit: str) -> None:
    prepare_rows(tmp_path, [chat("math" if n % 4 else "code", n) for n in range(8)])
    code, output = run_export(make_run(arms=arm_of(unit=unit)), tmp_path)
    assert code == 0
    percent, percents = parse_data_mixing(json.loads((output / "data_mixing.json").read_text())["data_mixing"])
    assert percent == 75.0
    assert set(percents) == {"math", "code"}
    assert percents["math"] == (75.0 if unit == "samples" else pytest.approx(75, abs=8))


@pytest.mark.parametrize("categories", [{}, {"chat": 1, "general": 1}])
def test_a_category_that_the_service_lacks_is_named_and_the_rows_stay(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], categories: dict[str, float]
) -> None:
    prepare_rows(tmp_path, make_general_rows(12))
    old = tmp_path / "exported" / "data_mixing.json"
    old.parent.mkdir()
    old.write_text("of an earlier export")
    code, output = run_export(make_run(arms=arm_of(categories)), tmp_path)
    assert code == 2
    captured = capsys.readouterr()
    assert "ConfigError: the arm 'mixed' cannot be written as a data_mixing block" in captured.err
    assert "does not have: general" in captured.err
    assert "general.jsonl: 6 rows, read back; without a Converse form: plain_text 6" in captured.out
    assert not old.exists()
    assert len(read_lines(output / "customer.jsonl")) == 40


def test_an_arm_of_customer_data_needs_nothing_general(make_run: MakeRun, tmp_path: Path) -> None:
    code, output = run_export(make_run(), tmp_path, "--arm", "customer", "--dataset-catalog", "other")
    assert code == 0
    assert not (output / "general.jsonl").exists()
    assert json.loads((output / "data_mixing.json").read_text())["data_mixing"] == {
        "dataset_catalog": "other",
        "sources": {"customer_data": {"percent": 100}, "nova_data": {}},
    }


def test_a_block_that_was_read_is_written_as_it_was(make_run: MakeRun, tmp_path: Path) -> None:
    prepare_rows(tmp_path, [chat("math", n) for n in range(8)])
    block = {
        "dataset_catalog": "mine",
        "sources": {"customer_data": {"percent": 60.5}, "nova_data": {"math": 100, "code": 0}},
    }
    run = make_run(arms=[{"name": "there", "title": "there", "data_mixing": block}])
    assert run_export(run, tmp_path)[0] == 0
    assert json.loads((tmp_path / "exported" / "data_mixing.json").read_text()) == {"data_mixing": block}


def test_several_customer_sources_have_no_block(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    data = run.config.data.model_dump(mode="json")
    other = write_lines(tmp_path / "other.jsonl", [make_voc_row(n) for n in range(200, 205)])
    data["sources"] = [data["sources"][0], {"name": "other", "uri": str(other), "format": "voc"}]
    sources = [{"name": "customer", "weight": 1}, {"name": "other", "weight": 1}]
    run = make_run("two", data=data, arms=[{"name": "two", "title": "two", "sources": sources}])
    code, output = run_export(run, tmp_path)
    assert code == 2
    assert "2 sources with format voc (customer, other)" in capsys.readouterr().err
    assert len(read_lines(output / "customer.jsonl")) == 45


def test_an_unknown_arm_is_refused_before_anything_is_read(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = run_export(make_run(), tmp_path, "--arm", "none")
    assert code == 2
    assert "there is no arm 'none'. Expected: customer, mixed" in capsys.readouterr().err
    assert not output.exists()


def test_a_file_that_does_not_come_back_keeps_no_name(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose_one(split: InputSplit, source: Any, *, max_row_bytes: int) -> Any:
        return list(read_split(split, source, max_row_bytes=max_row_bytes))[1:]

    monkeypatch.setattr(export, "read_split", lose_one)
    code, output = run_export(make_run(), tmp_path)
    assert code == 2
    assert f"{IntegrityError.__name__}: " in (err := capsys.readouterr().err)
    assert "gives 39 rows when it is read. Expected: the 40 rows that were written to it" in err
    assert not (output / "customer.jsonl").exists()
