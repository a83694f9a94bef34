from __future__ import annotations

from pathlib import Path

import pytest

from corpus.sources.formats import read_split
from corpus.sources.rows import InputSplit
from corpus.sources.splits import digest_files, list_splits
from tests.unit.corpus.sources.read_source import make_row, make_source, name_items, read_items, read_values
from voc.errors import ConfigError, DataError

datasets = pytest.importorskip("datasets")
ROWS = [make_row(number) for number in range(1, 1001)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    found = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list(ROWS[:3])}
    datasets.DatasetDict(found).save_to_disk(folder)
    return folder


@pytest.mark.parametrize("split_bytes", [2_000, 1 << 30])
def test_ranges_of_any_size_give_every_row_once(saved: Path, split_bytes: int) -> None:
    source = make_source(saved, reader="datasets")
    assert read_values(source, split_bytes=split_bytes) == ROWS
    assert (len(list_splits(source, watermark=None, split_bytes=split_bytes).splits) > 10) == (split_bytes == 2_000)


def test_the_split_and_the_columns_are_taken_from_the_source(saved: Path) -> None:
    columns = {"comment": "id", "id": "comment"}
    rows = read_values(make_source(saved, reader="datasets", split="test", columns=columns))
    assert [row["comment"] for row in rows] == ["r1", "r2", "r3"]


def test_a_folder_of_one_split_needs_no_name(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS[:2]).save_to_disk(tmp_path / "one")
    assert read_values(make_source(tmp_path / "one", reader="datasets")) == ROWS[:2]


def test_a_data_set_that_changes_has_another_digest(tmp_path: Path) -> None:
    found = []
    for size in (2, 3):
        datasets.Dataset.from_list(ROWS[:size]).save_to_disk(tmp_path / str(size))
        source = make_source(tmp_path / str(size), reader="datasets")
        found.append(list(digest_files(list_splits(source, watermark=None)).values()))
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"split": "validation"}, r"no split 'validation'.*train, test"),
        ({"columns": {"comment": "text"}}, "no column 'text'"),
    ],
)
def test_what_the_data_set_lacks_is_named(saved: Path, changes: dict[str, object], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_items(make_source(saved, reader="datasets", **changes))


def test_a_folder_of_files_is_no_saved_data_set(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"not a directory of a saved data set.*reader at auto"):
        read_items(make_source(tmp_path, reader="datasets"))


def test_a_damaged_folder_is_a_named_error(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS[:2]).save_to_disk(tmp_path / "one")
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(DataError, match="cannot be opened"):
        read_items(make_source(tmp_path / "one", reader="datasets"))


def test_a_hub_id_that_cannot_be_reached_is_a_named_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"nobody/nothing.*cannot be opened.*HF_HUB_OFFLINE"):
        read_items(make_source("nobody/nothing", reader="datasets"))


def test_a_hub_address_may_name_a_configuration_and_a_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def load(name: str, configuration: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        asked.update(name=name, configuration=configuration, split=split, revision=revision)
        return datasets.Dataset.from_list(ROWS[:2])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_values(make_source("owner/set/en@1a2b3c", reader="datasets")) == ROWS[:2]
    assert asked == {"name": "owner/set", "configuration": "en", "split": "train", "revision": "1a2b3c"}


def test_a_data_set_that_lost_rows_after_it_was_listed_is_noticed(saved: Path) -> None:
    split = InputSplit("reviews", str(saved), "datasets", 2, 5)
    source = make_source(saved, reader="datasets", split="test")
    assert name_items(read_split(split, source, max_row_bytes=9_999)) == [ROWS[2], "truncated_file"]


def test_an_empty_data_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.Dataset.from_dict({"id": []}))
    with pytest.raises(DataError, match="has no rows"):
        read_items(make_source("owner/empty", reader="datasets"))


def test_a_data_set_has_no_days(saved: Path) -> None:
    with pytest.raises(ConfigError, match="date_partitions"):
        read_items(make_source(saved, reader="datasets", date_partitions=True))
