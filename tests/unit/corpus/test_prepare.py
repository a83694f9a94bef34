from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corpus.ground.tasks import map_here
from corpus.parts.part_files import open_tokens, read_column
from corpus.prepare import prepare
from tests.tiny_run import make_voc_row, write_lines
from voc.champion import ChampionRecord, append_champion
from voc.errors import DataError, MixtureError
from voc.mixture import parse_mixture
from voc.run import Run, read_models
from voc.store.manifest import read_manifest, verify_directory

MakeRun = Callable[..., Run]


def read_json(run: Run, key: str) -> dict[str, Any]:
    return json.loads(run.store.read_bytes(key))


def read_lines(run: Run, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.store.read_bytes(f"{run.layout.data}/{name}").splitlines()]


def test_it_writes_the_accepted_rows_their_tokens_and_a_report(make_run: MakeRun) -> None:
    run = make_run()
    prepare(run, map_here)
    names = {entry.path for entry in read_manifest(run.store, run.layout.data).files}
    assert names == {
        *("taxonomy.csv", "test.jsonl", "quarantine.jsonl", "dropped.jsonl", "data_report.json", "data_card.html"),
        "overlaps.jsonl",
        *(f"rows/{source}/part-00000.parquet" for source in ("test", "customer", "general")),
        *(f"tokens/{source}/part-00000.arrow" for source in ("customer", "general")),
    }
    assert verify_directory(run.store, run.layout.data)
    assert len(read_lines(run, "test.jsonl")) == 10
    folder = run.store.local_path(run.layout.data)
    tokens = open_tokens(folder / "tokens/customer/part-00000.arrow")
    records = [json.loads(r) for r in read_column(folder / "rows/customer/part-00000.parquet", "record")]
    report = read_json(run, f"{run.layout.data}/data_report.json")
    assert len(tokens) == len(records) == report["files"]["customer"]["rows"] == 40
    assert records[3] == make_voc_row(3, 3)
    learned = sum(sum(row[1:]) for row in tokens["learned"].to_pylist())
    assert report["files"]["customer"]["assistant_tokens"] == learned
    assert report["files"]["general"]["categories"] == {"chat": 6, "general": 6}
    assert report["classes"]["train"]["path"] == {
        "laptop > battery > life > short": 20,
        "laptop > screen > light > bright": 20,
    }
    assert report["classes"]["test"]["L1"] == {"laptop": 10}


def test_every_arm_draws_the_same_number_of_samples(make_run: MakeRun) -> None:
    run = make_run()
    prepare(run, map_here)
    plans = {arm: parse_mixture(read_json(run, run.layout.mixture(arm))) for arm in ("customer", "mixed")}
    assert [(s.name, s.num_samples) for s in plans["customer"].shares] == [("customer", 32)]
    assert [(s.name, s.num_samples) for s in plans["mixed"].shares] == [("customer", 24), ("general", 8)]


def test_weights_may_count_tokens_exactly(make_run: MakeRun) -> None:
    sources = [{"name": "customer", "weight": 75}, {"name": "general", "weight": 25}]
    run = make_run(arms=[{"name": "mixed", "title": "m", "unit": "tokens", "sources": sources}])
    prepare(run, map_here)
    customer, general = read_json(run, run.layout.mixture("mixed"))["sources"]
    assert customer["num_samples"] + general["num_samples"] == 32
    assert general["num_samples"] > 16
    total = customer["num_tokens"] + general["num_tokens"]
    assert abs(customer["num_tokens"] - customer["residual_tokens"] - 0.75 * total) <= 1


def test_categories_share_what_their_source_has(make_run: MakeRun) -> None:
    sources = [
        {"name": "customer", "weight": 75},
        {"name": "general", "weight": 25, "categories": {"chat": 3, "general": 1}},
    ]
    run = make_run(arms=[{"name": "mixed", "title": "m", "sources": sources}])
    prepare(run, map_here)
    shares = parse_mixture(read_json(run, run.layout.mixture("mixed"))).shares
    assert [(s.name, s.category, s.num_samples) for s in shares] == [
        ("customer", None, 24), ("general", "chat", 6), ("general", "general", 2),
    ]  # fmt: skip


def test_references_come_first_and_candidates_have_no_digest_yet(make_run: MakeRun, tiny_base: Path) -> None:
    run = make_run(extra_models=[{"name": "other", "title": "other", "uri": str(tiny_base)}])
    append_champion(run.store, ChampionRecord("file:///m", "d" * 64, "r", "a", "better", "now"), after=0)
    prepare(run, map_here)
    models = read_models(run)
    assert [(m.name, m.role) for m in models] == [
        ("base", "reference"),
        ("champion", "reference"),
        ("customer", "candidate"),
        ("mixed", "candidate"),
        ("other", "candidate"),
    ]
    assert models[2].uri == f"{run.store.uri}/{run.layout.export('customer')}"
    assert models[2].digest is None
    assert models[4].digest == models[0].digest


def test_models_that_others_serve_come_last_and_are_pinned_by_how_they_are_addressed(
    make_run: MakeRun, tmp_path: Path
) -> None:
    outputs = tmp_path / "inference_output.jsonl"
    outputs.write_text('{"prompt": "p", "inference": "[]"}\n')
    lite = {"name": "lite", "title": "L", "model": "m:0", "region": "us-east-1"}
    tuned = {"name": "tuned", "title": "T", "uri": str(outputs)}
    run = make_run(external_models={"bedrock": [lite], "imported": [tuned]})
    prepare(run, map_here)
    last = read_models(run)[-2:]
    assert [(m.name, m.role, m.kind) for m in last] == [
        ("lite", "external", "bedrock"),
        ("tuned", "external", "imported"),
    ]
    assert last[1].digest == hashlib.sha256(outputs.read_bytes()).hexdigest()
    assert all(m.digest for m in last)


def test_a_champion_that_is_the_base_is_not_measured_twice(make_run: MakeRun) -> None:
    run = make_run()
    prepare(run, map_here)
    digest = read_models(run)[0].digest
    append_champion(run.store, ChampionRecord("file:///m", str(digest), "r", "a", "b", "now"), after=0)
    run.store.delete_prefix(run.layout.data)
    prepare(run, map_here)
    assert "champion" not in [m.name for m in read_models(run)]


def test_the_same_inputs_are_not_prepared_twice_and_others_are(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = make_run()
    prepare(run, map_here)
    before = read_manifest(run.store, run.layout.data)
    capsys.readouterr()
    prepare(run, map_here)
    assert "prepared already" in capsys.readouterr().out
    write_lines(tmp_path / "run" / "train.jsonl", [make_voc_row(n) for n in range(7)])
    prepare(run, map_here)
    assert read_manifest(run.store, run.layout.data).digest != before.digest
    assert read_json(run, f"{run.layout.data}/data_report.json")["files"]["customer"]["rows"] == 7


def test_refused_rows_are_in_the_quarantine_with_file_line_and_reason(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    rows = [make_voc_row(n) for n in range(20)]
    rows[3] = make_voc_row(3, words=400)
    path = write_lines(tmp_path / "run" / "train.jsonl", rows)
    path.write_text(path.read_text() + "{broken\n")
    data = make_run("other").config.data.model_dump(mode="json") | {"max_quarantine_ratio": 0.2}
    data["sources"][0]["uri"] = str(path)
    run = make_run(data=data)
    prepare(run, map_here)
    refused = read_lines(run, "quarantine.jsonl")
    assert [(r["file"], r["line"], r["reason"]) for r in refused] == [
        (str(path), 4, "too_long"),
        (str(path), 21, "malformed_json"),
    ]
    assert json.loads(refused[0]["raw"])["id"] == "c3"
    report = read_json(run, f"{run.layout.data}/data_report.json")
    assert report["files"]["customer"]["refused"] == {"malformed_json": 1, "too_long": 1}


def test_too_many_long_rows_fail_and_leave_the_list_of_them(make_run: MakeRun) -> None:
    training = {"max_seq_len": 64}
    run = make_run(training=training)
    with pytest.raises(DataError, match=r"40 of 40 rows are refused \(too_long 40\)"):
        prepare(run, map_here)
    assert read_manifest(run.store, run.layout.data) is None
    assert len(read_lines(run, "quarantine.jsonl")) == 40


def test_an_empty_source_is_a_named_error(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "general.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"general\.jsonl is empty"):
        prepare(make_run(), map_here)


def test_a_mixture_that_cannot_be_drawn_leaves_no_data_directory(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()

    def fail(*_: object, **__: object) -> None:
        raise MixtureError("no")

    monkeypatch.setattr("corpus.mixing.arms.plan_draw", fail)
    with pytest.raises(MixtureError):
        prepare(run, map_here)
    assert read_manifest(run.store, run.layout.data) is None


def write_leaking_test(folder: Path) -> None:
    folder.mkdir()
    write_lines(folder / "test.jsonl", [make_voc_row(1, 1), make_voc_row(500)])


def test_a_test_comment_in_the_training_data_is_an_error(make_run: MakeRun, tmp_path: Path) -> None:
    write_leaking_test(tmp_path / "run")
    run = make_run()
    with pytest.raises(DataError, match=r"training rows are in the test set \(customer: 1 word for word"):
        prepare(run, map_here)
    assert read_manifest(run.store, run.layout.data) is None
    leak = {
        "source": "customer",
        "row": 1,
        "id": "c1",
        "kind": "leakage_exact",
        "evaluation_set": "voc_test",
        "item": 0,
    }
    first = read_lines(run, "overlaps.jsonl")[0]
    assert make_voc_row(1, 1)["comment"].startswith(first.pop("text"))
    assert first == leak


def test_leaking_rows_can_be_dropped_and_are_listed(make_run: MakeRun, tmp_path: Path) -> None:
    write_leaking_test(tmp_path / "run")
    data = make_run("other").config.data.model_dump(mode="json")
    data |= {"test": str(tmp_path / "run" / "test.jsonl"), "duplicates": {"leakage": "drop", "near": "off"}}
    run = make_run(data=data)
    prepare(run, map_here)
    assert {"source": "customer", "row": 1, "id": "c1", "reason": "leakage_exact"} in read_lines(run, "dropped.jsonl")
    shares = read_json(run, run.layout.mixture("customer"))["sources"]
    assert shares[0]["num_rows"] == 40 - len(read_lines(run, "dropped.jsonl"))
