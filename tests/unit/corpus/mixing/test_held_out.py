"""The rows that no arm draws: which, how many, and that they do not come back in another form."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from corpus.ground.tasks import map_here
from corpus.mixing.held_out import choose_rows
from corpus.mixing.samples import SampleReader
from corpus.parts.part_files import open_tokens
from corpus.prepare import prepare
from corpus.report.mix_table import format_mix
from corpus.sources import splits as splits_module
from tests.tiny_run import make_general_rows, make_voc_row, write_lines
from tests.unit.corpus.nights import MakeRun, list_samples, read_lines, read_report, read_steps
from voc.errors import DataError
from voc.run import Run
from voc.store.manifest import verify_directory

VALIDATION = {"every_steps": 2, "rows_per_stratum": 3}


def prepare_run(make_run: MakeRun, name: str = "run", **sections: Any) -> Run:
    """Prepare 60 comments and 60 general rows in two categories, 3 of each stratum held out unless told otherwise."""
    training = {"validation": VALIDATION, **sections.pop("training", {})}
    run = make_run(name, training=training, **sections)
    root = run.store.root.parent
    write_lines(root / "train.jsonl", [make_voc_row(n, n % 7) for n in range(60)])
    write_lines(root / "general.jsonl", make_general_rows(60))
    prepare(run, map_here)
    return run


def read_held_out(run: Run) -> dict[str, list[int]]:
    manifest = verify_directory(run.store, run.layout.validation)
    reader = SampleReader(run.store, run.layout.validation, manifest)
    found = {}
    for index, stratum in enumerate(manifest.facts["strata"]):
        samples = reader.read_step(index)
        assert {sample.share for sample in samples} == {index}
        found[f"{stratum['name']}/{stratum['category']}"] = [sample.source_row for sample in samples]
    return found


def test_every_source_and_category_gives_rows_that_no_arm_draws(make_run: MakeRun) -> None:
    run = prepare_run(make_run, training={"max_steps": 40})
    held_out = read_held_out(run)
    assert {name: len(rows) for name, rows in held_out.items()} == {
        "customer/None": 3, "general/chat": 3, "general/general": 3,
    }  # fmt: skip
    drawn = {"customer": set(), "general": set()}
    mixture = json.loads(run.store.read_bytes(run.layout.mixture("mixed")))
    for samples in read_steps(run, "mixed"):
        for sample in samples:
            drawn[mixture["sources"][sample.share]["name"]].add(sample.source_row)
    general = {*held_out["general/chat"], *held_out["general/general"]}
    assert drawn == {"customer": set(range(60)) - {*held_out["customer/None"]}, "general": set(range(60)) - general}


def test_mixtures_stay_exact(make_run: MakeRun) -> None:
    run = prepare_run(make_run)
    sources = json.loads(run.store.read_bytes(run.layout.mixture("mixed")))["sources"]
    assert [(s["name"], s["num_samples"], s["num_rows"]) for s in sources] == [("customer", 24, 57), ("general", 8, 54)]


def test_the_held_out_tokens_are_those_of_their_rows(make_run: MakeRun) -> None:
    run = prepare_run(make_run)
    manifest = verify_directory(run.store, run.layout.validation)
    samples = SampleReader(run.store, run.layout.validation, manifest).read_step(0)
    tokens = open_tokens(run.store.local_path(f"{run.layout.data}/tokens/customer/part-00000.arrow"))
    for sample in samples:
        assert sample.input_ids.tolist() == tokens["input_ids"][sample.source_row].as_py()
        assert sample.learned.tolist() == tokens["learned"][sample.source_row].as_py()


def test_the_same_rows_are_held_out_whatever_the_size_of_a_split(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare_run(make_run)
    monkeypatch.setitem(splits_module.list_splits.__kwdefaults__, "split_bytes", 700)
    cut = prepare_run(make_run, "cut")
    assert len(list(cut.store.local_path(f"{cut.layout.data}/rows/customer").iterdir())) > 5
    assert read_held_out(cut) == read_held_out(whole)
    assert list_samples(cut, "mixed") == list_samples(whole, "mixed")


def test_another_seed_holds_out_other_rows(make_run: MakeRun) -> None:
    assert read_held_out(prepare_run(make_run)) != read_held_out(prepare_run(make_run, "other", seed=2))


def test_at_most_one_row_in_ten_is_held_out(make_run: MakeRun) -> None:
    run = prepare_run(make_run, training={"validation": {"every_steps": 2, "rows_per_stratum": 1000}})
    assert Counter({name: len(rows) for name, rows in read_held_out(run).items()}) == {
        "customer/None": 6, "general/chat": 3, "general/general": 3,
    }  # fmt: skip


def test_without_validation_nothing_is_held_out(make_run: MakeRun) -> None:
    run = prepare_run(make_run, training={"validation": {"every_steps": 0}})
    assert not list(run.store.list_keys(run.layout.validation))
    report = read_report(run)
    assert "validation" not in report
    assert "held out" not in format_mix(report)
    assert json.loads(run.store.read_bytes(run.layout.mixture("customer")))["sources"][0]["num_rows"] == 60


def test_too_few_rows_for_validation_are_an_error_that_says_so(make_run: MakeRun) -> None:
    run = make_run(training={"validation": VALIDATION})
    write_lines(run.store.root.parent / "train.jsonl", [make_voc_row(n) for n in range(9)])
    with pytest.raises(DataError, match=r"no row can be held out .*customer 9, general/chat 6, general/general 6"):
        prepare(run, map_here)


def test_the_report_lists_and_explains_what_is_held_out(make_run: MakeRun) -> None:
    run = prepare_run(make_run)
    report = read_report(run)
    assert report["validation"][0] == {
        "name": "customer", "category": None, "format": "voc", "usable": 60, "held_out": 3, "alike_in_training": 0,
    }  # fmt: skip
    assert report["files"]["general"]["dropped"] == {"held_out": 6}
    table = format_mix(report)
    assert "held out for validation" in table
    assert "customer  (all)              60         3                           0" in table
    left_out = [row for row in read_lines(run, "dropped.jsonl") if row["reason"] == "held_out"]
    assert [row["row"] for row in left_out if row["source"] == "customer"] == read_held_out(run)["customer/None"]
    card = run.store.read_bytes(f"{run.layout.data}/data_card.html").decode()
    assert "Held out for validation" in card


def test_a_row_that_repeats_a_held_out_one_is_not_trained_on(make_run: MakeRun) -> None:
    run = make_run(training={"validation": {"every_steps": 2, "rows_per_stratum": 6}, "max_steps": 40})
    rows = [make_voc_row(n // 2, n // 2 % 7) | {"id": f"c{n}"} for n in range(60)]  # every comment twice
    write_lines(run.store.root.parent / "train.jsonl", rows)
    prepare(run, map_here)
    held_out = read_held_out(run)["customer/None"]
    assert len(held_out) == 6
    assert {row // 2 for row in held_out} == {row // 2 for row in held_out if row % 2}
    assert read_report(run)["validation"][0]["alike_in_training"] == 0


# The choice itself.


def choose(groups: list[list[int]], budget: list[int]) -> list[list[int]]:
    arrays = [np.array(part) for part in groups]
    return [np.flatnonzero(c).tolist() for c in choose_rows(arrays, [np.arange(len(a)) for a in arrays], budget)]


def test_a_group_is_chosen_whole_or_not_at_all() -> None:
    assert choose([[7, 1, 7, 7, 2]], [2]) == [[1, 4]]
    assert choose([[7, 7, 1, 2]], [2]) == [[0, 1]]


def test_a_group_that_reaches_into_a_full_stratum_is_passed_over() -> None:
    assert choose([[1, 5], [2, 5, 5]], [1, 1]) == [[0], [0]]
    assert choose([[5, 1], [2, 5]], [1, 1]) == [[0], [1]]


def test_where_all_rows_are_alike_single_rows_are_chosen() -> None:
    assert choose([[3] * 20], [2]) == [[0, 1]]
    assert choose([[3] * 20, []], [2, 0]) == [[0, 1], []]
