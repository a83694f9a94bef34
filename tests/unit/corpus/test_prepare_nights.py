"""Nights that follow each other: days, the same inputs again, a kill in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corpus.ground.tasks import map_here
from corpus.mixing.samples import write_shard
from corpus.prepare import prepare
from tests.tiny_run import make_voc_row, write_lines
from tests.unit.corpus.nights import (
    ARM,
    MakeRun,
    list_samples,
    make_night,
    make_source,
    read_report,
    start_next_night,
)
from voc.champion import ChampionRecord, append_champion
from voc.errors import DataError
from voc.run import Run
from voc.store.manifest import FileEntry, Manifest, read_manifest, verify_directory, write_manifest
from voc.store.uri import open_store

# Days.


def write_days(folder: Path, days: dict[str, range]) -> Path:
    for day, numbers in days.items():
        (folder / f"date={day}").mkdir(parents=True)
        write_lines(folder / f"date={day}" / "part.jsonl", [make_voc_row(number) for number in numbers])
    return folder


OLD_DAYS = {"2026-11-20": range(200, 260), "2026-11-21": range(260, 320)}
NEW_DAY = {"2026-11-22": range(320, 340)}


def promote(run: Run) -> None:
    append_champion(run.store, ChampionRecord("file:///m", "d" * 64, run.layout.run_id, ARM, "better", "now"), after=0)


def make_dated_night(make_run: MakeRun, folder: Path, replay_ratio: float) -> Run:
    return make_night(make_run, make_source(folder, date_partitions=True, replay_ratio=replay_ratio))


def test_without_a_promotion_the_next_night_reads_the_same_days(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_dated_night(make_run, write_days(tmp_path / "days", OLD_DAYS), 0.5)
    prepare(first, map_here)
    manifest = read_manifest(first.store, first.layout.data)
    assert manifest is not None
    assert manifest.facts["watermarks"] == {"customer": "2026-11-21"}
    figures = read_report(first)["files"]["customer"]
    assert (figures["rows"], figures["watermark"], figures["replayed_rows"]) == (120, None, 0)
    second = start_next_night(first, "second")
    prepare(second, map_here)
    assert list_samples(second) == list_samples(first)


def test_after_a_promotion_a_night_reads_newer_days_and_replays_a_share(make_run: MakeRun, tmp_path: Path) -> None:
    folder = write_days(tmp_path / "days", OLD_DAYS)
    first = make_dated_night(make_run, folder, 0.5)
    prepare(first, map_here)
    promote(first)
    write_days(folder, NEW_DAY)
    second, third = start_next_night(first, "second"), start_next_night(first, "third")
    prepare(second, map_here)
    prepare(third, map_here)
    figures = read_report(second)["files"]["customer"]
    assert figures["watermark"] == "2026-11-21"
    assert 35 <= figures["replayed_rows"] <= 85
    assert figures["rows"] == figures["read"] == figures["replayed_rows"] + 20
    manifest = read_manifest(second.store, second.layout.data)
    assert manifest is not None
    assert manifest.facts["watermarks"] == {"customer": "2026-11-22"}
    assert list_samples(third) == list_samples(second)


def test_a_night_without_a_newer_day_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_dated_night(make_run, write_days(tmp_path / "days", OLD_DAYS), 0.0)
    prepare(first, map_here)
    promote(first)
    with pytest.raises(DataError, match=r"no day after 2026-11-21.*2 files of 2026-11-20 to 2026-11-21"):
        prepare(start_next_night(first, "second"), map_here)


def test_a_promoted_night_that_is_started_again_keeps_its_data(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_dated_night(make_run, write_days(tmp_path / "days", OLD_DAYS), 0.0)
    prepare(run, map_here)
    promote(run)
    prepare(run, map_here)
    assert "prepared already" in capsys.readouterr().out


# Again, and after a kill.


def list_times(run: Run) -> dict[str, int]:
    root = run.store.local_path("runs")
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_the_same_inputs_write_nothing_again_and_another_seed_does(make_run: MakeRun) -> None:
    run = make_run()
    prepare(run, map_here)
    before, samples = list_times(run), list_samples(run)
    prepare(run, map_here)
    assert list_times(run) == before
    other = Run(run.store, run.layout, run.config.model_copy(update={"seed": 2}))
    prepare(other, map_here)
    assert list_samples(other) != samples


def test_a_killed_preparation_leaves_no_manifest_and_the_next_one_succeeds(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    killed_at: list[str] = []

    def die(task: Any) -> Any:
        if task.prefix == run.layout.samples("mixed"):
            killed_at.append(task.name)
            raise KeyboardInterrupt
        return write_shard(task)

    with monkeypatch.context() as patch:
        patch.setattr("corpus.mixing.arms.write_shard", die)
        with pytest.raises(KeyboardInterrupt):
            prepare(run, map_here)
    assert killed_at
    assert read_manifest(run.store, run.layout.data) is None
    assert read_manifest(run.store, run.layout.samples("mixed")) is None
    prepare(run, map_here)
    assert verify_directory(run.store, run.layout.data)
    assert len(list_samples(run, "mixed")) == 32


def test_a_file_that_is_half_uploaded_later_is_not_passed_over_as_the_same_inputs(
    make_run: MakeRun, tmp_path: Path
) -> None:
    (tmp_path / "rows").mkdir()
    write_lines(tmp_path / "rows" / "a.jsonl", [make_voc_row(number) for number in range(10)])
    run = make_night(make_run, make_source(tmp_path / "rows"))
    prepare(run, map_here)
    write_manifest(open_store(str(tmp_path)), "rows", Manifest((FileEntry("b.jsonl", 9, "0" * 64),), {}))
    with pytest.raises(DataError, match=r"b\.jsonl: missing file"):
        prepare(run, map_here)
