"""What an arm trains on: packed rows as the unit of a step, and splits of any size."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from corpus.ground.tasks import map_here
from corpus.prepare import prepare
from corpus.sources import splits as splits_module
from tests.unit.corpus.nights import (
    MakeRun,
    list_samples,
    read_steps,
    start_next_night,
)
from voc.run import Run

# Packed rows as the unit of a step.


def make_packed_night(make_run: MakeRun, unit: str, max_steps: int, batch: int) -> Run:
    sources = [{"name": "customer", "weight": 75}, {"name": "general", "weight": 25}]
    training = {"batch_unit": "rows", "max_steps": max_steps, "global_batch_size": batch}
    return make_run(training=training, arms=[{"name": "mixed", "title": "m", "unit": unit, "sources": sources}])


@pytest.mark.parametrize("unit", ["samples", "tokens", "assistant_tokens"])
@pytest.mark.parametrize(("max_steps", "batch"), [(4, 8), (13, 3), (1, 2), (60, 1)])
def test_every_drawn_sample_lies_in_one_packed_row_of_one_step(
    make_run: MakeRun, unit: str, max_steps: int, batch: int
) -> None:
    run = make_packed_night(make_run, unit, max_steps, batch)
    prepare(run, map_here)
    mixture = json.loads(run.store.read_bytes(run.layout.mixture("mixed")))
    steps = read_steps(run, "mixed")
    assert len(steps) == mixture["num_steps"] == max_steps
    assert all(steps), "a step without samples has nothing to learn"
    assert sum(len(samples) for samples in steps) == mixture["num_samples"]
    num_rows = 0
    for samples in steps:
        filled: Counter[int] = Counter()
        for sample in samples:
            filled[sample.row] += len(sample.input_ids)
        assert set(filled) == set(range(len(filled)))
        assert len(filled) <= batch
        assert max(filled.values()) <= 384
        num_rows += len(filled)
    assert mixture["packing"]["rows"] == num_rows
    assert mixture["packing"]["too_long"] == 0
    drawn: Counter[int] = Counter(sample.share for samples in steps for sample in samples)
    assert [drawn[index] for index in range(2)] == [source["num_samples"] for source in mixture["sources"]]
    if unit == "assistant_tokens":
        customer, general = (source["num_assistant_tokens"] for source in mixture["sources"])
        residual = mixture["sources"][0].get("residual_tokens", 0)
        assert abs(customer - residual - 0.75 * (customer + general)) <= 1


@pytest.mark.parametrize("unit", ["samples", "assistant_tokens"])
def test_the_samples_are_the_same_whatever_the_size_of_a_split(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    whole = make_packed_night(make_run, unit, 4, 4)
    prepare(whole, map_here)
    monkeypatch.setattr(splits_module, "SPLIT_BYTES", 700)
    monkeypatch.setitem(splits_module.list_splits.__kwdefaults__, "split_bytes", 700)
    cut = start_next_night(whole, "cut")
    prepare(cut, map_here)
    assert len(list(cut.store.local_path(f"{cut.layout.data}/rows/customer").iterdir())) > 5
    assert list_samples(cut, "mixed") == list_samples(whole, "mixed")
