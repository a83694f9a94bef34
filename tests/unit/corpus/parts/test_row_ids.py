from __future__ import annotations

import pytest

from corpus.ground.tasks import map_here
from corpus.parts.part_files import read_row_ids
from corpus.prepare import prepare
from corpus.sources import splits as splits_module
from tests.unit.corpus.nights import MakeRun
from voc.store.manifest import read_manifest


def test_a_row_is_found_by_its_number_however_its_source_was_cut(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(splits_module.list_splits.__kwdefaults__, "split_bytes", 700)
    run = make_run()
    prepare(run, map_here)
    data = read_manifest(run.store, run.layout.data)
    rows = {"customer": {39, 0, 17}, "general": {2}}
    assert read_row_ids(run.store, run.layout.data, data, rows) == {
        ("customer", 0): "c0", ("customer", 17): "c17", ("customer", 39): "c39", ("general", 2): "",
    }  # fmt: skip
